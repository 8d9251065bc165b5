"""Straight pieces: a float32 chain as ``slope * x + offset``, piece by piece, and how far rounding can be off that line.

Where the root's shares cancel, as in PACT's clip ``0.5 * (|x| - |x - a| + a)`` beyond its bounds, a chain is constant but for rounding, and its
direction says nothing. The line has slope 0 there, and a bound on the rounding tells whether what follows (a rounding, a comparison) takes one value.

Rounding grows with the input: 2^24 times beyond its bounds, the source's clip loses them altogether and returns a / 2. Such pieces are looked at
as far as `REACH` times the largest breakpoint, and taken to go on like that.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

__all__ = ["LARGEST", "NEARER", "REACH", "Lines"]

LARGEST = np.float32(1e30)
"""Inputs beyond this are not looked at: further out, BatchNorm's own arithmetic overflows."""

REACH = 4096.0
"""How far pieces are looked at on which the root cancels, in units of the largest breakpoint: there an 8-bit step is 20 times what rounding adds."""

NEARER = (1, 1 / 8, 1 / 64)
"""Where rounding could decide at `REACH`, pieces are looked at only so far."""

_ROUNDING = 2.0**-24 * 1.001
"""What one float32 operation can be off, of its result; the rest covers this module's own arithmetic."""

_UNDERFLOW = 2.0**-149


@dataclass
class Lines:
    """``|value(x) - slope * x - offset| <= fixed + growing * |x|`` as far as ``|x| <= reach``.

    Parameters
    ----------
    slope, offset, fixed, growing, reach : ndarray, float64
        Piece by piece, shapes that broadcast to (pieces, ...); slope NaN where the chain is not known to be straight.
    """

    slope: np.ndarray
    offset: np.ndarray
    fixed: np.ndarray
    growing: np.ndarray
    reach: np.ndarray

    @classmethod
    def root(cls, shape: tuple[int, ...]) -> Lines:
        """Return the line of the root itself."""
        zero = np.zeros(shape)
        return cls(zero + 1, zero, zero, zero, zero + float(LARGEST))

    @classmethod
    def constant(cls, values: np.ndarray) -> Lines:
        """Return what has a value of its own on each piece, exactly."""
        zero = np.zeros(np.shape(values))
        return cls(zero, np.asarray(values, np.float64), zero, zero, zero + float(LARGEST))

    @property
    def is_flat(self) -> np.ndarray:
        """Where the root has no share in the value."""
        return self.slope == 0

    @property
    def is_exact(self) -> np.ndarray:
        """Where the value is one number."""
        return self.is_flat & (self.fixed == 0) & (self.growing == 0)

    def unknown(self) -> Lines:
        """Return these pieces as not straight."""
        return Lines(self.slope * np.nan, self.offset, self.fixed, self.growing, self.reach)

    def resampled(self, take) -> Lines:
        """Return the lines of finer pieces; `take` maps an array of pieces to one of finer pieces."""
        return Lines(*(take(getattr(self, f.name)) for f in fields(self)))

    def interval(self, extent: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest float32 that the value can be where it is flat, for ``|x| <= extent`` and a share of the reach."""
        error = self.fixed + self.growing * np.minimum(extent, self.reach * share)
        low, high = (self.offset - error).astype(np.float32), (self.offset + error).astype(np.float32)
        exact = error == 0
        return np.where(exact, low, np.nextafter(low, -np.float32(np.inf))), np.where(exact, high, np.nextafter(high, np.float32(np.inf)))

    def plus(self, other: Lines, sign: int, breaks: np.ndarray) -> Lines:
        """Return the sum or difference. Where slopes cancel and rounding remains, what is looked at ends at `REACH` times the largest of `breaks`."""
        slope, offset = self.slope + sign * other.slope, self.offset + sign * other.offset
        fixed, growing = self.fixed + other.fixed, self.growing + other.growing
        reach = np.minimum(self.reach, other.reach)
        largest = np.abs(np.where(np.isfinite(breaks), breaks, 0)).max(0, initial=0, keepdims=True)
        limit = np.where(largest > 0, np.minimum(REACH * largest.astype(np.float64), float(LARGEST)), float(LARGEST))
        reach = np.where((slope == 0) & (self.slope != 0) & (growing > 0), np.minimum(reach, limit), reach)
        slope = np.where((slope != 0) & (reach < float(LARGEST)), np.nan, slope)  # further out than looked at it may be anything
        return Lines(slope, offset, fixed + _ROUNDING * (np.abs(offset) + fixed), growing + _ROUNDING * (np.abs(slope) + growing), reach)

    def times(self, factor: np.ndarray) -> Lines:
        """Return the product with a factor that is exact on each piece."""
        size = np.abs(factor) * (1 + _ROUNDING)
        slope, offset = self.slope * factor, self.offset * factor
        rounds = ~np.isin(np.abs(factor), (0, 1))  # signs and zeros cost no rounding
        fixed = self.fixed * size + np.where(rounds, _ROUNDING * np.abs(offset) + _UNDERFLOW, 0)
        return Lines(slope, offset, fixed, self.growing * size + np.where(rounds, _ROUNDING * np.abs(slope), 0), self.reach)

    def bounded(self, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> Lines:
        """Return the lines clipped; pieces end where a bound is passed, so `value` at their starts tells on which side they are.

        A flat line stays one, and is no further off than before.
        """
        saturated = (value >= high) | (value < low)
        clipped = np.clip(np.where(self.is_flat, self.offset, value), low, high)
        fixed, growing = (np.where(self.is_flat, e, 0) for e in (self.fixed, self.growing))
        flat = Lines(np.zeros(np.shape(clipped)), clipped, fixed, growing, self.reach)
        return flat.where(saturated | self.is_flat, self)

    def where(self, condition: np.ndarray, other: Lines) -> Lines:
        """Return these lines where the condition holds, else the others; what was looked at is the less of both."""
        picked = [np.where(condition, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        picked[-1] = np.minimum(self.reach, other.reach)
        return Lines(*picked)
