"""Transposed convolution as ordinary convolutions whose results are interleaved (sub-pixel convolution), so that all that is known of convolutions holds.

With stride s, padding p and kernel K, along one axis ``y[o] = sum_i x[i] w[o + p - i s]``. Of outputs ``o = s q + r`` (phase r) only the taps ``w[a + s t]``
with ``a = (r + p) mod s`` and t < T = ceil((K - a) / s) meet an input, ``x[q + f - t]`` with ``f = (r + p) div s``: a convolution of T taps that starts at
``q + f - T + 1``. Phases of equal T differ only in where they start, so one convolution with the filters of all of them serves them, and each takes its slice
of the result.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of

__all__ = ["sub_pixel_convolution"]


@dataclass(frozen=True)
class _Phase:
    """One phase along one axis: first tap, number of taps, and the input index at which the window of its first output starts."""

    first: int
    taps: int
    start: int


def _phases(kernel: int, stride: int, before: int) -> list[_Phase]:
    found = []
    for r in range(stride):
        first, shift = (r + before) % stride, (r + before) // stride
        taps = -(-(kernel - first) // stride)
        found.append(_Phase(first, taps, shift - taps + 1))
    return found


def sub_pixel_convolution(c: Conversion, x: relax.Expr, weight: np.ndarray, strides: list[int], pads: list[int], extra: list[int]) -> relax.Expr | None:
    """Build a transposed convolution of one group without dilation from ordinary ones.

    Parameters
    ----------
    c : Conversion
    x : Expr, shape (N, Ci, H, W)
    weight : ndarray, shape (Ci, Co, KH, KW)
    strides : list of int
    pads : list of int
        Top, left, bottom, right.
    extra : list of int
        ONNX's ``output_padding``.

    Returns
    -------
    Expr or None
        None where a phase has no tap or the phases differ in size.
    """
    n, _, *sizes = c.shape(x)
    kernel, channels = weight.shape[2:], weight.shape[1]
    out = [s * (d - 1) + e + k - pads[i] - pads[i + 2] for i, (s, d, e, k) in enumerate(zip(strides, sizes, extra, kernel, strict=True))]
    rows, cols = (_phases(kernel[i], strides[i], pads[i]) for i in (0, 1))
    if any(o % s for o, s in zip(out, strides, strict=True)) or any(p.taps < 1 for p in (*rows, *cols)):
        return None
    count = [o // s for o, s in zip(out, strides, strict=True)]
    parts: dict[tuple[_Phase, _Phase], tuple[relax.Expr, list[int]]] = {}
    for taps_h, taps_w in sorted({(a.taps, b.taps) for a in rows for b in cols}):
        group = [(a, b) for a, b in itertools.product(rows, cols) if (a.taps, b.taps) == (taps_h, taps_w)]
        parts |= _convolved(c, x, weight, strides, sizes, count, group)
    ordered = [parts[pair] for pair in itertools.product(rows, cols)]
    whole = len({id(y) for y, _ in ordered}) == 1 and c.shape(ordered[0][0])[1:] == (channels * len(ordered), *count)
    joined = ordered[0][0] if whole else c.emit(R.concat([_cut(c, y, begin, channels, count) for y, begin in ordered], 1))
    if len(ordered) == 1:
        return joined
    split = c.emit(R.reshape(joined, (n, *strides, channels, *count)))
    return R.reshape(c.emit(R.permute_dims(split, (0, 3, 4, 1, 5, 2))), (n, channels, *out))


def _convolved(c, x, weight, strides, sizes, count, group) -> dict:
    """Convolve once for phases of equal taps; return the result and where in it each one starts: channel, row, column."""
    channels, taps = weight.shape[1], [group[0][axis].taps for axis in (0, 1)]
    filters, pads = [], []
    for a, b in group:
        own = weight[:, :, a.first :: strides[0], b.first :: strides[1]]
        filters.append(own[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    first = [min(pair[axis].start for pair in group) for axis in (0, 1)]
    last = [max(pair[axis].start for pair in group) + count[axis] + taps[axis] - 2 for axis in (0, 1)]
    pads = [max(0, -f) for f in first] + [max(0, e - (d - 1)) for e, d in zip(last, sizes, strict=True)]
    y = c.emit(R.nn.conv2d(x, constant_of(np.ascontiguousarray(np.concatenate(filters))), padding=pads))
    return {pair: (y, [i * channels, *(pair[axis].start + pads[axis] for axis in (0, 1))]) for i, pair in enumerate(group)}


def _cut(c, y, begin, channels, count):
    return c.emit(R.strided_slice(y, [1, 2, 3], begin, [b + k for b, k in zip(begin, (channels, *count), strict=True)]))
