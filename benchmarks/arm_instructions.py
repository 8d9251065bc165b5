"""Instructions of binary convolutions on 64-bit Arm, counted under qemu-aarch64: 3x3 with threshold and packing, a whole layer each.

    python benchmarks/arm_instructions.py [--target cortex-a76] [--others]

With --others layers of other kinds, as chosen: float output with a shortcut, and those of `layers.OTHERS`, each beside its limit of an exclusive or, a count
and an addition a 128-bit word. Counts say how much work there is, not how long a processor takes for it.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import tempfile
from pathlib import Path

import tvm
from layers import OTHERS, PLAIN
from tvm import relax

import bnncc.tuning
from bnncc.codegen import lower_tir
from bnncc.ops import bnn
from bnncc.schedules import build_kernel, packed
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.schedules.neon.popcount import popcount_tree
from bnncc.targets import find_target
from bnncc.toolchain import find_compiler, find_emulator

_COUNTER = Path(bnncc.tuning.__file__).with_name("count_instructions.c")
SHAPES = ((64, 56), (128, 28), (256, 14), (512, 7))
FORMULATIONS = {"tree": popcount_tree, "sliced": sliced_formulation}


def convolution(channels: int, size: int) -> relax.Function:
    """Return the group of a 3x3 convolution, padded before, with thresholds and packing."""
    words = channels // 64
    types = [((1, size + 2, size + 2, words), "uint64"), ((channels, 3, 3, words), "uint64"), ((1, channels), "int32"), ((channels,), "int8")]
    x, w, thresholds, flip = (relax.Var(name, relax.TensorType(*kind)) for name, kind in zip("xwtf", types, strict=True))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w, thresholds, flip]):
        with builder.dataflow():
            sums = builder.emit(bnn.packed_conv2d(x, w, channels=channels, strides=(1, 1), dilation=(1, 1), groups=1))
            codes = builder.emit(bnn.quantize(sums, thresholds, flip))
            bits = builder.emit_output(bnn.pack(codes, channels=channels, word_bits=64))
        builder.emit_func_output(bits)
    return builder.get()["main"].with_attr("bnncc.const_params", [1, 2, 3])


def with_shortcut(channels: int, size: int) -> relax.Function:
    """Return the group of a 3x3 convolution, padded before, whose sums are scaled, shifted and added to a shortcut, in float32."""
    words, image = channels // 64, (1, size, size, channels)
    types = [((1, size + 2, size + 2, words), "uint64"), ((channels, 3, 3, words), "uint64"), ((channels,), "float32"), ((channels,), "float32")]
    x, w, scale, shift, shortcut = (relax.Var(name, relax.TensorType(*kind)) for name, kind in zip("xwabs", [*types, (image, "float32")], strict=True))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w, scale, shift, shortcut]):
        with builder.dataflow():
            sums = builder.emit(bnn.packed_conv2d(x, w, channels=channels, strides=(1, 1), dilation=(1, 1), groups=1))
            scaled = builder.emit(relax.op.multiply(builder.emit(relax.op.astype(sums, "float32")), scale))
            total = builder.emit_output(relax.op.add(builder.emit(relax.op.add(scaled, shift)), shortcut))
        builder.emit_func_output(total)
    return builder.get()["main"].with_attr("bnncc.const_params", [1, 2, 3])


def program(sizes: list[int], parallel: bool) -> str:
    """Return C that calls the kernel on zeros; once before, so that all pages are there."""
    names = [f"b{i}" for i in range(len(sizes))]
    buffers = "\n".join(f"static unsigned char {name}[{size}] __attribute__((aligned(64)));" for name, size in zip(names, sizes, strict=True))
    call = f"kernel({', '.join(names + ['0', '1'] * parallel)});"  # one part of one
    parameters = ", ".join(["void *"] * len(sizes) + ["int", "int"] * parallel)
    mark = '__asm__ volatile("orr x{0}, x{0}, x{0}" ::: "memory");'
    return f"{buffers}\nvoid kernel({parameters});\nint main(void) {{ {call} {mark.format(9)} {call} {mark.format(10)} return 0; }}\n"


def counter(folder: Path) -> Path:
    """Build the emulator's plugin."""
    plugin = folder / "libcount.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, _COUNTER], check=True)
    return plugin


def count(function: relax.Function, target: str, plugin: Path, folder: Path) -> tuple[int, int, int]:
    """Return the instructions of one call: all, vector arithmetic, vector loads and stores."""
    variant = find_target(target).variants[0]
    tvm_target = tvm.target.Target(variant.tvm_target)
    lowered = lower_tir.lower_kernel(build_kernel(function, variant).func, "kernel", tvm_target)
    lower_tir.build_object(lowered, tvm_target, str(folder / "kernel.o"))
    params = [p for p in build_kernel(function, variant).func.params]
    sizes = [lower_tir.buffer_bytes(p) for p in params] + list(lowered.scratch)
    (folder / "main.c").write_text(program([math.ceil(size / 64) * 64 for size in sizes], lowered.parallel))
    triple = variant.tvm_target["mtriple"]
    subprocess.run([*find_compiler(triple), "-O1", "-static", "-o", folder / "main", folder / "main.c", folder / "kernel.o"], check=True)
    done = subprocess.run([*find_emulator(triple)[:1], "-plugin", plugin, folder / "main"], check=True, capture_output=True, text=True)
    return tuple(map(int, done.stderr.split()[-3:]))


def print_others(target: str, plugin: Path, folder: Path) -> None:
    """Print the table of layers of other kinds."""
    variant = find_target(target).variants[0]
    rows = [(f"{layer.title}, float with shortcut", layer, with_shortcut(layer.inputs, layer.size)) for layer in PLAIN]
    rows += [(layer.title, layer, layer.build()[0]) for layer, _ in OTHERS]
    print("| layer | kernel | instructions, M | limit, M | of the limit | vector arithmetic a word |\n|---|---|---|---|---|---|")
    for title, layer, function in rows:
        total, vector, _ = count(function, target, plugin, folder)
        words = layer.macs / 128
        note = build_kernel(function, variant).note
        print(f"| {title} | {note} | {total / 1e6:.3f} | {3 * words / 1e6:.3f} | {total / words / 3:.2f} | {vector / words:.2f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="cortex-a76")
    parser.add_argument("--others", action="store_true")
    options = parser.parse_args()
    target = options.target
    chosen = packed.choose_formulation
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plugin = counter(folder)
        if options.others:
            print_others(target, plugin, folder)
            return
        print("| formulation | shape | instructions, M | a 128-bit word | vector arithmetic a word | chosen |\n|---|---|---|---|---|---|")
        for channels, size in SHAPES:
            words = size * size * channels * channels * 9 / 128
            choices = []
            packed.choose_formulation = lambda builder, shape, seen=choices: seen.append(chosen(builder, shape)) or seen[-1]
            build_kernel(convolution(channels, size), find_target(target).variants[0])
            for name, formulation in FORMULATIONS.items():
                packed.choose_formulation = lambda builder, shape, formulation=formulation: formulation(shape, builder.variant)
                total, vector, _ = count(convolution(channels, size), target, plugin, folder)
                mark = "yes" if choices[0].name.startswith("popcount tree" if name == "tree" else name) else ""
                print(f"| {name} | {channels}@{size} | {total / 1e6:.2f} | {total / words:.2f} | {vector / words:.2f} | {mark} |", flush=True)


if __name__ == "__main__":
    main()
