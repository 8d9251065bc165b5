"""Cycles that llvm-mca 19 gives the inner loops of the sliced and the popcount kernel on processors that are not here.

    python benchmarks/simulated.py

The loops are those that bnncc's own kernels consist of for the most part, cut out of the assembly: 3x3, 512 channels (AVX-512) or 256 (AVX2) at 14 x 14. The
simulation knows neither caches nor the work around the loop: it compares instructions, not layers. Needs `llvm-mca-19` (Debian: llvm-19).
"""

from __future__ import annotations

import re
import shutil
import subprocess

from layers import Layer, assembly

from bnncc.schedules import packed
from bnncc.schedules.formulations.popcount import popcount
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.targets import Variant
from bnncc.targets.x86 import V3, V4

__all__ = ["COMMAND", "measure_simulated"]

COMMAND = "llvm-mca-19"
PROCESSORS = (("znver4", V4), ("sapphirerapids", V4), ("skylake", V3), ("alderlake", V3), ("znver3", V3))
LOOKUPS = 64  # of straight-line code, each of two inputs
MAC = 512


def _inner_loop(variant: Variant, formulation) -> str:
    """Return the basic block of a kernel with most vector instructions; blocks end at labels and jumps."""
    chosen = packed.choose_formulation
    packed.choose_formulation = lambda builder, shape: formulation(shape, builder.variant)
    try:
        code = assembly(Layer(variant.vector_bits, variant.vector_bits, 14).build()[0], variant)
    finally:
        packed.choose_formulation = chosen
    blocks = re.split(r"^\.LBB\w+:.*$|^\tj\w+\t.*$", code, flags=re.MULTILINE)
    block = max(blocks, key=lambda block: _count(variant, formulation, block))
    return "\n".join(line for line in block.splitlines() if line.startswith("\t") and not line.startswith("\t."))


def _count(variant: Variant, formulation, block: str) -> int:
    """Count what a loop of a formulation is known by: vectors whose bits are counted, or lookups."""
    if formulation is popcount:
        return len(re.findall("vpopcntq", block)) if variant is V4 else len(re.findall("vpshufb", block)) // 2  # a look up for each half of the bytes
    loads = len(re.findall("movzbl", block))
    return loads if loads == LOOKUPS else 0  # the last rows of the table have a straight line of their own


def _macs(variant: Variant, formulation, block: str) -> int:
    """Return the multiply-accumulates of one run of the loop."""
    return variant.vector_bits * (_count(variant, formulation, block) if formulation is popcount else 2 * LOOKUPS)


def _simulate(block: str, processor: str) -> tuple[float, float]:
    """Return cycles of one run of the loop: simulated, and what the busiest unit alone would take."""
    iterations = 100
    done = subprocess.run([COMMAND, f"-mcpu={processor}", f"-iterations={iterations}", "-"], input=block + "\n", capture_output=True, text=True, check=True)
    cycles = int(re.search(r"Total Cycles:\s+(\d+)", done.stdout).group(1)) / iterations
    return cycles, float(re.search(r"Block RThroughput:\s+([\d.]+)", done.stdout).group(1))


def measure_simulated() -> list[dict]:
    """Return a row for each processor: cycles for 512 multiply-accumulates of both formulations; no rows where there is no llvm-mca 19."""
    if shutil.which(COMMAND) is None:
        return []
    rows = []
    loops = {v.name: {f: _inner_loop(v, f) for f in (popcount, sliced_formulation)} for v in (V3, V4)}
    for processor, variant in PROCESSORS:
        row = {"processor": processor, "code": variant.name}
        for name, formulation in (("popcount", popcount), ("sliced", sliced_formulation)):
            block = loops[variant.name][formulation]
            scale = MAC / _macs(variant, formulation, block)
            cycles, bound = _simulate(block, processor)
            row[name] = {"cycles": cycles * scale, "bound": bound * scale, "instructions": len(block.splitlines()) * scale}
        rows.append(row | {"ratio": row["sliced"]["cycles"] / row["popcount"]["cycles"]})
    return rows


def main() -> None:
    """Print the table."""
    print(f"Cycles for {MAC} MAC by {COMMAND}: simulated (busiest unit)\n| | code | popcount | sliced | ratio |\n|---|---|---|---|---|")
    for row in measure_simulated():
        cells = [f"{row[name]['cycles']:.2f} ({row[name]['bound']:.2f})" for name in ("popcount", "sliced")]
        print(f"| {row['processor']} | {row['code']} | {' | '.join(cells)} | {row['ratio']:.2f} |")


if __name__ == "__main__":
    main()
