"""Small integers as weighted sums of signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnncc.passes.code_range import CodeRange

__all__ = ["CodePlanes", "WeightPlanes", "code_planes", "weight_planes"]


@dataclass(frozen=True)
class CodePlanes:
    """Codes ``lo + step * v`` with v of `count` binary digits; as signs ``2 * code = offset + sum(scales * signs)``."""

    lo: int
    step: int
    count: int

    @property
    def scales(self) -> tuple[int, ...]:
        """Twice what each plane of signs adds to a code."""
        return tuple(self.step << i for i in range(self.count))

    @property
    def offset(self) -> int:
        """Twice the code that all digits half set would be."""
        return 2 * self.lo + self.step * ((1 << self.count) - 1)

    def holds(self, code: int) -> bool:
        """Tell whether the planes can say `code`."""
        return 0 <= code - self.lo < self.step << self.count and (code - self.lo) % self.step == 0


@dataclass(frozen=True)
class WeightPlanes:
    """Weights w as ``2 * w = sum(scales * signs)``: int8 signs of shape (planes, ...)."""

    signs: np.ndarray
    scales: tuple[int, ...]


def code_planes(codes: CodeRange) -> CodePlanes:
    """Return the fewest planes that hold the codes of a range."""
    step = codes.step & -codes.step or 1  # the largest power of two in it
    return CodePlanes(codes.lo, step, max(1, ((codes.hi - codes.lo) // step).bit_length()))


def weight_planes(weights: np.ndarray) -> WeightPlanes:
    """Split integer weights into planes of signs.

    Multiples of a common unit that are all odd are sums of ``2**j`` times a sign. Where even ones are among them, 0 for instance, ``2 w`` minus the sign of w
    is odd and such a sum again: one plane more, but no offset, which would ask for the sum of every window of the input. So -1, 0, +1 take two planes, -3 ..
    3 four.

    Parameters
    ----------
    weights : ndarray, int8 or int16, any shape
    """
    unit = max(1, int(np.gcd.reduce(np.abs(weights.astype(np.int64)).reshape(-1))))
    multiples = weights.astype(np.int64) // unit
    if np.all(multiples % 2):
        extra, odd, scale = [], multiples, 2 * unit
    else:
        sign = np.where(multiples > 0, 1, -1)
        extra, odd, scale = [sign], 2 * multiples - sign, unit
    count = int(np.abs(odd).max()).bit_length()
    digits = (odd + (1 << count) - 1) // 2
    signs = [2 * (digits >> j & 1) - 1 for j in range(count)]
    return WeightPlanes(np.stack(extra + signs).astype(np.int8), (unit,) * len(extra) + tuple(scale << j for j in range(count)))
