"""Small integers behind real numbers: the levels of a quantizer and the weights of a filter as ``integer * scale``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Levels", "IntegerFilters", "even_levels", "integer_filters"]

_LARGEST = 255
"""Of a weight: what eight bits say as odd numbers."""

_FILTER_TOLERANCE = 4e-6
"""Largest distance of a weight from its multiple, of the filter's largest weight: what float32 leaves of quantized weights into which BatchNorm is folded."""


@dataclass(frozen=True)
class Levels:
    """Evenly spaced levels, ascending, as ``codes * scale + offset`` in float32, each within one unit in the last place (or what `even_levels` was asked for).

    Parameters
    ----------
    values : ndarray, float32, shape (levels,)
    codes : ndarray, int64, shape (levels,)
        Within int8, or within uint8 where 0 is the first of more than 128.
    scale, offset : numpy.float32
    """

    values: np.ndarray
    codes: np.ndarray
    scale: np.float32
    offset: np.float32

    @property
    def dtype(self) -> str:
        """Element type that holds the codes."""
        return "int8" if self.codes[-1] <= 127 else "uint8"


def even_levels(values: np.ndarray, is_summed: bool = False) -> Levels | None:
    """Split the values of a step function into codes, scale and offset, or return None where they are uneven, more than 256, or so few that bits hold them.

    An offset of 0 is preferred, since then a padded 0 is a code: codes step by 2 where the levels lie at half-odd multiples.

    Parameters
    ----------
    values : ndarray
    is_summed : bool
        Whether layers alone read the tensor. These sum codes exactly and scale the sums, so that levels of bytes with a zero point, which a scale and an
        offset in float32 give within units of the largest level only, are taken, too.
    """
    levels = np.unique(np.asarray(values, np.float32)) + np.float32(0)
    if not 4 <= len(levels) <= 256 or not np.isfinite(levels).all():
        return None
    exact = levels.astype(np.float64)
    step = (exact[-1] - exact[0]) / (len(levels) - 1)
    for scale in (step, step / 2):
        codes = np.round(exact / scale).astype(np.int64)
        found = _fitted(levels, codes, scale, np.float32(0))
        if found is not None:
            return found
    codes = np.arange(len(levels))
    return _fitted(levels, codes - (128 if len(levels) > 128 else 0), step, None, is_summed)


def _fitted(levels, codes, scale, offset, is_summed=False) -> Levels | None:
    """Return the levels with the scale, among the few that float32 rounding leaves open, that reproduces them best."""
    if not (codes[0] >= -128 and codes[-1] <= 127 or codes[0] >= 0 and codes[-1] <= 255) or len(set(np.diff(codes))) != 1:
        return None
    near = np.float32(scale)
    candidates = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(0))]
    best = None
    known = np.flatnonzero(levels == 0) if is_summed else ()  # the code of 0 has to be whole for padding
    first = known[0] if len(known) else 0
    for candidate in candidates:
        zero = np.float32(levels[first] - codes[first] * np.float64(candidate)) if offset is None else offset
        error = np.abs((codes.astype(np.float32) * candidate + zero).astype(np.float64) - levels)
        sizes = np.abs(levels).max() if is_summed else np.maximum(np.abs(levels), np.abs(candidate))
        units = float(np.max(error / np.spacing(sizes)))
        if units <= (2 if is_summed else 1) and (best is None or units < best[0]):
            best = (units, Levels(levels, codes, candidate, zero))
    return best[1] if best else None


@dataclass(frozen=True)
class IntegerFilters:
    """Weights as ``integers * scale``: int8 of the filters' shape, int16 where they need it, and float64 (Co,), 0 where a filter is dead."""

    integers: np.ndarray
    scale: np.ndarray

    @property
    def bits(self) -> int:
        """Bits that tell the integers apart, of the smallest to the largest in even steps."""
        values = np.unique(self.integers).astype(int)
        step = int(np.gcd.reduce(np.diff(values))) if len(values) > 1 else 1
        return max(1, int((values[-1] - values[0]) // step).bit_length())


def integer_filters(filters: np.ndarray) -> IntegerFilters | None:
    """Split filters into small integers and a scale each; None where one is made of anything else.

    Parameters
    ----------
    filters : ndarray, float32, shape (Co, ...)
    """
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    largest = np.abs(flat).max(axis=1, initial=0)
    if not np.isfinite(largest).all():
        return None
    integers, open_ = np.zeros(flat.shape, np.int16), largest > 0
    for count in range(1, _LARGEST + 1):
        rows = np.flatnonzero(open_)
        for columns in (slice(0, 32), slice(None)):  # most counts fail on the first few weights
            unit = largest[rows, None] / count
            multiples = np.round(flat[rows, columns] / unit)
            near = np.abs(multiples * unit - flat[rows, columns]) <= _FILTER_TOLERANCE * largest[rows, None]
            fits = np.all(near, axis=1)
            rows, multiples = rows[fits], multiples[fits]
        integers[rows] = multiples
        open_[rows] = False
        if not open_.any():
            break
    if open_.any():
        return None
    squares = (integers.astype(np.float64) ** 2).sum(1)
    scale = np.where(squares > 0, (flat * integers).sum(1) / np.maximum(squares, 1), 0)
    narrow = integers.astype(np.int8) if -128 <= integers.min() and integers.max() <= 127 else integers
    return IntegerFilters(narrow.reshape(filters.shape), scale)
