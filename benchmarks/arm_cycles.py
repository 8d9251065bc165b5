"""Cycles of the inner loops of binary convolutions on 64-bit Arm by a static model of the processor, llvm-mca 19 (Debian's llvm-19).

    python benchmarks/arm_cycles.py [--channels 256 --size 14]

A model of the processor is no processor: caches, branches and what surrounds the loop are not in it.
"""

from __future__ import annotations

import argparse
import re
import subprocess

import tvm
from arm_instructions import FORMULATIONS, convolution

from bnncc.codegen import lower_tir
from bnncc.schedules import build_kernel, packed
from bnncc.targets import find_target

# target, and the model that its code is run on
PROCESSORS = (
    ("cortex-a55", "cortex-a55"),
    ("neoverse-n1", "neoverse-n1"),
    ("neoverse-n1", "neoverse-n2"),
    ("neoverse-n1", "neoverse-v2"),
    ("apple-m1", "apple-m1"),
)
OPERATIONS = {"tree": r"\tcnt\t", "sliced": r"\tb(?:sl|it|if)\t"}
ITERATIONS = 50


def inner_loop(name: str, channels: int, size: int, target: str) -> tuple[str, int]:
    """Return the instructions of the block with most of what the formulation consists of, and the 128-bit words of inputs by channels that it counts."""
    variant = find_target(target).variants[0]
    packed.choose_formulation = lambda builder, shape: FORMULATIONS[name](shape, builder.variant)
    tvm_target = tvm.target.Target(variant.tvm_target)
    lowered = lower_tir.lower_kernel(build_kernel(convolution(channels, size), variant).func, "kernel", tvm_target)
    text = tvm.get_global_func("target.build.llvm")(lowered.module, tvm_target).inspect_source("asm")
    blocks = re.split(r"(?m)^\.LBB\w+:|^\tb(?:\.\w+)?\t.*$", text)
    block = max(blocks, key=lambda body: len(re.findall(OPERATIONS[name], body)))
    code = [line for line in block.splitlines() if re.match(r"\t[a-z]", line)]
    rows = len([line for line in code if re.match(r"\tldr\tq\d+, \[x\d+, x\d+, lsl #4\]", line)])
    return "\n".join(code), rows * 2 if name == "sliced" else len(re.findall(OPERATIONS[name], block))


def cycles(code: str, processor: str) -> float:
    """Return the cycles of one iteration."""
    command = ["llvm-mca-19", "-mtriple=aarch64-linux-gnu", f"-mcpu={processor}", f"-iterations={ITERATIONS}"]
    done = subprocess.run(command, input=code, check=True, capture_output=True, text=True)
    return int(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1]) / ITERATIONS


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--size", type=int, default=14)
    options = parser.parse_args()
    print("| model | tree | sliced | ratio |\n|---|---|---|---|")
    for target, processor in PROCESSORS:
        found = []
        for name in FORMULATIONS:
            code, words = inner_loop(name, options.channels, options.size, target)
            found.append(cycles(code, processor) / words)
        print(f"| {processor} | {found[0]:.2f} | {found[1]:.2f} | {found[1] / found[0]:.2f} |")


if __name__ == "__main__":
    main()
