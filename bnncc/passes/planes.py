"""Few, uneven values as sums of sign planes: ``w = offset + sum_p scale_p * sign_p``; of filters an offset and scales for each output channel.

Two values are one plane (AdaBin's b - a and b + a), three are two (TTQ's -wn, 0 and wp, and the ternary -c, 0, +c with an offset of 0), four are two where they
are all sums of two bases (LQ-Net). Each plane is a binary layer; the offset multiplies the sum of the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["FilterPlanes", "LevelPlanes", "filter_planes", "level_planes"]

_TOLERANCE = 1e-5
"""Largest distance of two weights that count as one value, of the filter's largest."""


@dataclass(frozen=True)
class LevelPlanes:
    """``levels[i] == offset + sum(scales[p] * signs[p, i])``; signs int8 of shape (planes, levels), numbers float64."""

    signs: np.ndarray
    scales: np.ndarray
    offset: float


def level_planes(levels: np.ndarray, tolerance: float) -> LevelPlanes | None:
    """Split ascending levels into at most two signs and their scales; None where there are more than that can hold.

    Four levels have to be all sums of two bases, up to `tolerance`; an offset below it is 0.
    """
    index, gaps = np.arange(len(levels)), np.diff(levels)
    if len(levels) == 4 and abs(gaps[0] - gaps[2]) <= 2 * tolerance:
        tests, bases = np.stack([index >= 2, index % 2 == 1]), np.array([levels[2] - levels[0], gaps[0]])
    elif len(levels) <= 3:
        tests, bases = np.arange(1, len(levels))[:, None] <= index, gaps
    else:
        return None
    middle = float(levels[0] + levels[-1]) / 2  # all signs alike are an end, so the middle of the ends is the offset
    return LevelPlanes(np.where(tests, 1, -1).astype(np.int8), bases / 2, middle if abs(middle) > tolerance else 0.0)


@dataclass(frozen=True)
class FilterPlanes:
    """``weights == offset + sum(scales[p] * signs[p])``, channel by channel.

    Parameters
    ----------
    signs : list of ndarray, int8, shape of the filters
    scales : list of ndarray, float32, shape (Co,)
    offset : ndarray, float32, shape (Co,)
    """

    signs: list[np.ndarray]
    scales: list[np.ndarray]
    offset: np.ndarray


def filter_planes(filters: np.ndarray) -> FilterPlanes | None:
    """Split filters into at most two sign planes; None where one has more values than that, or four that are no sums of two bases.

    Parameters
    ----------
    filters : ndarray, float32, shape (Co, ...)

    References
    ----------
    Tu et al.: AdaBin, ECCV 2022, section 3; Zhang et al.: LQ-Nets, ECCV 2018, section 3.
    """
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        return None
    signs, scales, offset = np.ones((2, *flat.shape), np.int8), np.zeros((2, len(flat))), np.zeros(len(flat))
    for channel, weights in enumerate(flat):
        tolerance = _TOLERANCE * np.abs(weights).max(initial=0)
        values = np.unique(weights)
        groups = np.split(values, np.flatnonzero(np.diff(values) > tolerance) + 1)
        if len(groups) > 4:
            return None
        index = np.searchsorted([g[-1] for g in groups], weights)
        levels = np.array([weights[index == i].mean() for i in range(len(groups))])
        found = level_planes(levels, tolerance)
        if found is None:
            return None
        for plane, (sign, scale) in enumerate(zip(found.signs, found.scales, strict=True)):
            signs[plane, channel] = sign[index]
            scales[plane, channel] = scale
        offset[channel] = found.offset
    used = [p for p in range(2) if p == 0 or scales[p].any()]
    shaped = [np.ascontiguousarray(signs[p].reshape(filters.shape)) for p in used]
    return FilterPlanes(shaped, [scales[p].astype(np.float32) for p in used], offset.astype(np.float32))
