"""Instructions of a whole network on 64-bit Arm, layer by layer, counted under qemu-aarch64, each beside the least it could be.

    python benchmarks/arm_network.py MODEL.onnx [--target cortex-a76]

The compiled library tells of each kernel call as it ends, and the counter is read there. A layer's limit is what no code of its formulation can do without:
of a float layer a fused multiply-add for every four products, and the loads of the best register tile (6 pixels x 4 vectors: 6 quarters of a vector of inputs
and 2 pairs of vectors of weights for 24 of them); of a binary layer an exclusive or, a count and an addition a 128-bit word; beside these, and of all other
steps, a load or store for every 16 bytes of feature maps that are read or written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arm_instructions import counter

import bnncc
from bnncc.toolchain import find_compiler, find_emulator

__all__ = ["StepCount", "count_steps", "limit"]

_FLOAT_LOADS = (6 / 4 + 4 / 2) / 24
_BINARY = ("popcount", "sliced", "lookup", "depthwise,")


@dataclass(frozen=True)
class StepCount:
    """Instructions of one kernel call: all, vector arithmetic, vector loads and stores; its least; what it makes and how."""

    writes: str
    note: str
    total: int
    vector: int
    memory: int
    limit: float


def limit(note: str, macs: int, moved_bytes: int) -> float:
    """Return the least instructions of a step."""
    moved = moved_bytes / 16
    if not macs:
        return moved
    return 3 * macs / 128 + moved if note.startswith(_BINARY) else macs / 4 * (1 + _FLOAT_LOADS) + moved


def program(metadata: dict) -> str:
    """Return C that runs the network twice on random numbers; what is counted of the second run starts and ends at each step."""
    sizes = [[int(np.prod(t["shape"], dtype=np.int64)) * np.dtype(t["dtype"]).itemsize for t in metadata[kind]] for kind in ("inputs", "outputs")]
    declare = "".join(
        f"static unsigned char {kind}{i}[{size}] __attribute__((aligned(64)));\n" for kind, of in zip("io", sizes, strict=True) for i, size in enumerate(of)
    )
    floats = [i for i, t in enumerate(metadata["inputs"]) if t["dtype"] == "float32"]
    fill = "".join(
        f"    for (uint32_t k = 0, s = 1; k < sizeof i{i} / 4; k++) {{ s = s * 1664525 + 1013904223; "
        f"((float *)i{i})[k] = (float)(int32_t)s * 0x1p-30f; }}\n"
        for i in floats
    )
    pointers = [", ".join(f"{kind}{i}" for i in range(len(of))) for kind, of in zip("io", sizes, strict=True)]
    mark = '__asm__ volatile("orr x{0}, x{0}, x{0}" ::: "memory");'
    return f"""#include <stdint.h>
{declare}static unsigned char workspace[{metadata["workspace_bytes"] + 64}] __attribute__((aligned({metadata["workspace_align"]})));
int32_t {metadata["name"]}_profile(const void *, void *, void *, void (*)(void *, int32_t), void *);
static void after(void *context, int32_t step)
{{
    if (*(int *)context) {{ {mark.format(10)} {mark.format(9)} }}
}}
int main(void)
{{
    const void *in[] = {{{pointers[0]}}}, *out[] = {{{pointers[1]}}};
    int counted = 0;
{fill}    if ({metadata["name"]}_profile(in, out, workspace, after, &counted))
        return 1;
    counted = 1;
    {mark.format(9)}
    return {metadata["name"]}_profile(in, out, workspace, after, &counted);
}}
"""


def count_steps(model: str | Path, target: str, folder: Path) -> list[StepCount]:
    """Compile a model and count each of its kernel calls."""
    out = folder / "compiled"
    bnncc.compile(model, target=target, name="network").save(out)
    metadata = json.loads((out / "metadata.json").read_text())
    (folder / "main.c").write_text(program(metadata))
    triple, library = metadata["triple"], out / "libnetwork.so"
    subprocess.run([*find_compiler(triple), "-O1", "-o", folder / "main", folder / "main.c", library, f"-Wl,-rpath,{out}", "-lm"], check=True)
    emulator = find_emulator(triple)
    done = subprocess.run([emulator[0], "-plugin", counter(folder), *emulator[1:], folder / "main"], check=True, capture_output=True, text=True)
    counts = [tuple(map(int, line.split())) for line in done.stderr.splitlines()]
    (variant,) = metadata["variants"]
    notes = metadata["model"]["kernel_notes"][variant["name"]]
    steps = zip(counts, variant["steps"], metadata["model"]["steps"], strict=True)
    return [StepCount(", ".join(w["writes"]), notes[kernel], *found, limit(notes[kernel], w["macs"], w["moved_bytes"])) for found, kernel, w in steps]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="cortex-a76")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = count_steps(options.model, options.target, Path(folder))
    print("| makes | kernel | instructions, k | vector arithmetic, k | limit, k | of the limit |\n|---|---|---|---|---|---|")
    for s in steps:
        print(f"| {s.writes} | {s.note} | {s.total / 1e3:.0f} | {s.vector / 1e3:.0f} | {s.limit / 1e3:.0f} | {s.total / s.limit:.2f} |")
    total, least = sum(s.total for s in steps), sum(s.limit for s in steps)
    print(f"| all | | {total / 1e3:.0f} | {sum(s.vector for s in steps) / 1e3:.0f} | {least / 1e3:.0f} | {total / least:.2f} |")


if __name__ == "__main__":
    main()
