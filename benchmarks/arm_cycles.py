"""Cycles of the inner loops of binary convolutions on 64-bit Arm by a static model of the processor, llvm-mca 19 (Debian's llvm-19).

    python benchmarks/arm_cycles.py [--channels 256 --size 14]

A model of the processor is no processor: caches, branches and what surrounds the loop are not in it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from unittest import mock

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
    tvm_target = tvm.target.Target(variant.tvm_target)
    with mock.patch.object(packed, "choose_formulation", lambda builder, shape: FORMULATIONS[name](shape, builder.variant)):
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


def cycles_of_a_word(name: str, channels: int, size: int, target: str, processor: str) -> float:
    """Return the cycles of 128 bits in the inner loop of a formulation, compiled for `target`, by the model of `processor`."""
    code, words = inner_loop(name, channels, size, target)
    return cycles(code, processor) / words


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--size", type=int, default=14)
    options = parser.parse_args()
    print("| model | tree | sliced | ratio |\n|---|---|---|---|")
    for target, processor in PROCESSORS:
        tree, sliced = (cycles_of_a_word(name, options.channels, options.size, target, processor) for name in FORMULATIONS)
        print(f"| {processor} | {tree:.2f} | {sliced:.2f} | {sliced / tree:.2f} |")


if __name__ == "__main__":
    main()
