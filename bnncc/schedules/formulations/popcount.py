"""Popcount formulation: xor and popcount, lanes = output channels.

Words of the activations are spread over the lanes, words of the weights stream in lane order. Words of 64 bits give 64-bit lanes, narrower
words 32-bit lanes: LLVM makes ``vpopcntq`` of the vector popcount on AVX-512, and a ``vpshufb`` table on AVX2 and SSSE3.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.formulations.formulation import BinaryShape, Formulation, register_tiled
from bnncc.schedules.register_tile import Contraction
from bnncc.targets import Variant

__all__ = ["popcount"]


def popcount(shape: BinaryShape, variant: Variant) -> Formulation:
    """Return the popcount formulation of any binary contraction."""
    lane = "uint64" if shape.word == "uint64" else "uint32"
    lanes = variant.lanes(int(lane[4:]))
    widest, vectors = (7, 4) if variant.vector_registers >= 32 else (4, 2)
    c = Contraction(
        groups=shape.groups,
        group_outputs=shape.outputs,
        taps=shape.taps,
        depth=shape.words,
        lanes=lanes,
        acc_dtype=lane,
        weight_dtype=lane,
        tile_dtype="int32",
        vectors=vectors,
        step=lambda acc, x, w: acc + tirx.popcount(tirx.bitwise_xor(x, w)),
        finish=lambda acc: tirx.Cast(f"int32x{lanes}", acc),
        planes=shape.planes,
    )

    return register_tiled(shape, c, widest, "popcount")
