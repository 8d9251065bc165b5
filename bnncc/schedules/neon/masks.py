"""Bits of a word from conditions on NEON, which has no instruction that gathers the lanes of a mask.

A lane that is true keeps the power of two of its place in its byte, and three steps of pairwise sums bring eight lanes into one byte. Four vectors of 16 lanes
share the steps: 4 ``and`` and 4 ``addp`` for a word of 64 bits, which stands in a vector register then, ready to be stored.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.statements import const, reinterpret

__all__ = ["join_masks"]

_LANES = 16


def join_masks(vectors: list, bits: int):
    """Return the word of `bits` bits of pieces (first bit, lanes, condition), or None where these are no whole vectors of 16 lanes from bit 0 on."""
    if [(bit, lanes) for bit, lanes, _ in vectors] != [(bit, _LANES) for bit in range(0, bits, _LANES)]:
        return None
    powers = tirx.Shuffle([tirx.const(1 << lane % 8, "uint8") for lane in range(_LANES)], list(range(_LANES)))
    sums = [tirx.Select(condition, powers, const(0, "uint8", _LANES)) for _, _, condition in vectors]
    for _ in range(3):
        pairs = zip(sums[::2], sums[1::2] or sums, strict=True)
        sums = [tirx.call_llvm_pure_intrin("uint8x16", "llvm.aarch64.neon.addp.v16i8", a, b) for a, b in pairs]
    octets = bits // 8
    low = tirx.Shuffle([sums[0]], list(range(octets)))
    return reinterpret(f"uint{bits}", low)
