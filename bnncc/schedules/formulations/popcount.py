"""Popcount formulation: xor and popcount, lanes = output channels.

Words of the activations are spread over the lanes, words of the weights stream in lane order. Words of 64 bits give 64-bit lanes, narrower
words 32-bit lanes, and so do words of 64 bits that 32 inputs or fewer leave half empty: LLVM makes ``vpopcntq`` of the vector popcount on AVX-512, and a
``vpshufb`` table on AVX2 and SSSE3.

The tile on AVX-512 by llvm-mca 19, cycles for 512 MAC of the inner loop (busiest unit alone: 1.5): 14 pixels x 1 vector leave registers for what is between,
and the words of pixels are spread by the loads of the exclusive or; 7 x 4 spills.

======  =============  ==============  ==================  ====================
tile    64@56 znver4   256@14 znver4   1x1 256@14 znver4   sapphirerapids, all
======  =============  ==============  ==================  ====================
14 x 1  1.69           1.50            1.58                1.50
7 x 4   1.61           1.79            1.75                1.50
======  =============  ==============  ==================  ====================
"""

from __future__ import annotations

from dataclasses import replace

from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation, register_tiled
from bnncc.targets import Variant

__all__ = ["popcount"]


_TILES = ((4, 2), (2, 2), (3, 2), (6, 2), (2, 4), (3, 3), (4, 1), (8, 1))
_MANY_TILES = ((7, 4), (4, 4), (7, 3), (8, 2), (12, 2), (4, 6), (14, 1))
"""Pixels x vectors for 16 and for 32 registers, the best measured first."""
_NARROW = 32
"""Inputs of a tap that a word of 32 bits holds."""
_UNROLLED = (24, 48, 96, 192)


def popcount(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> Formulation:
    """Return the popcount formulation of any binary contraction."""
    widths = ["uint32"] * (shape.words == 1 and shape.inputs <= _NARROW) + ["uint64"] * (shape.word == "uint64")
    lane = choose(choices, "popcount word", widths[0], widths) if widths else "uint32"
    lanes = variant.lanes(int(lane[4:]))
    tiles = _MANY_TILES if variant.vector_registers >= 32 else _TILES
    best = (14, 1) if "vpopcnt" in variant.instructions and shape.pixels > 1 else tiles[0]
    widest, vectors = choose(choices, "popcount tile", best, tiles)
    c = shape.contraction(
        lanes=lanes,
        acc_dtype=lane,
        weight_dtype=lane,
        tile_dtype="int32",
        vectors=vectors,
        step=lambda acc, x, w: acc + tirx.popcount(tirx.bitwise_xor(x, w)),
        finish=lambda acc: tirx.Cast(f"int32x{lanes}", acc),
    )
    c = replace(c, unrolled_steps=choose(choices, "popcount steps", c.unrolled_steps, _UNROLLED))
    return register_tiled(shape, c, widest, "popcount")
