"""NumPy meaning of Relax's convolutions, pools and resizes, for any order of the layout letters.

Sums are taken in float64 (int64 for integers) and rounded once to the operator's type: runtimes add in orders of their own, and this is the value they
all approximate. Sums of small integers, which is what binarized layers have, are exact here as they are there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnncc.errors import InternalError
from bnncc.ops.geometry import pad_widths, windows

__all__ = ["WINDOWED"]


def _reorder(x: np.ndarray, source: str, target: str) -> np.ndarray:
    """Move the axes from one order of layout letters to the other."""
    if sorted(source) != sorted(target):
        raise InternalError(f"Layout {source} is not an order of the letters {target}; blocked layouts have no NumPy meaning here.")
    return x.transpose([source.index(letter) for letter in target])


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64 if np.issubdtype(x.dtype, np.floating) else np.int64)


def _conv2d(attrs, x, w):
    out_layout = attrs.out_layout or attrs.data_layout
    x = _wide(_reorder(x, attrs.data_layout, "NHWC"))
    w = _wide(_reorder(w, attrs.kernel_layout, "HWIO"))
    x = np.pad(x, pad_widths(attrs.padding))
    groups = int(attrs.groups)
    kh, kw, ci, co = w.shape
    view = windows(x, (kh, kw), [int(s) for s in attrs.strides], [int(d) for d in attrs.dilation])
    n, oh, ow = view.shape[:3]
    out = np.empty((n, oh, ow, co), x.dtype)
    for g in range(groups):
        columns = view[:, :, :, g * ci : (g + 1) * ci].transpose(0, 1, 2, 4, 5, 3).reshape(n * oh * ow, -1)
        mine = slice(g * (co // groups), (g + 1) * (co // groups))
        out[..., mine] = (columns @ w[..., mine].reshape(kh * kw * ci, -1)).reshape(n, oh, ow, -1)
    return _reorder(out, "NHWC", out_layout)


def _conv2d_transpose(attrs, x, w):
    out_layout = attrs.out_layout or attrs.data_layout
    x = _wide(_reorder(x, attrs.data_layout, "NHWC"))
    w = _wide(_reorder(w, attrs.kernel_layout, "IHWO"))
    groups = int(attrs.groups)
    (sy, sx), (dy, dx) = ((int(v) for v in p) for p in (attrs.strides, attrs.dilation))
    top, left, bottom, right = (int(p) for p in attrs.padding)
    more_y, more_x = (int(p) for p in attrs.output_padding)
    n, h, width, ci = x.shape
    _, kh, kw, co = w.shape
    full_h, full_w = (h - 1) * sy + (kh - 1) * dy + 1 + more_y, (width - 1) * sx + (kw - 1) * dx + 1 + more_x
    out = np.zeros((n, full_h, full_w, co * groups), x.dtype)
    per = ci // groups
    for g in range(groups):
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dy, i * dy + (h - 1) * sy + 1, sy)
                cols = slice(j * dx, j * dx + (width - 1) * sx + 1, sx)
                out[:, rows, cols, g * co : (g + 1) * co] += x[..., g * per : (g + 1) * per] @ w[g * per : (g + 1) * per, i, j]
    return _reorder(out[:, top : full_h - bottom, left : full_w - right], "NHWC", out_layout)


def _pool_windows(attrs, x, fill, padding=None):
    """Return the windows of an NHWC array padded with `padding` (`fill` if None); the ceiling mode adds `fill` where a last window needs it.

    A window that would start beyond the image and the padding before it does not count (ONNX and PyTorch agree with Relax on that).
    """
    kernel, strides, dilation = ([int(v) for v in p] for p in (attrs.pool_size, attrs.strides, attrs.dilation))
    size, pads = x.shape, pad_widths(attrs.padding)
    x = np.pad(x, pads, constant_values=fill if padding is None else padding)
    if attrs.ceil_mode:
        for axis, (k, s, d) in enumerate(zip(kernel, strides, dilation), start=1):
            window = d * (k - 1) + 1
            last = -(-(x.shape[axis] - window) // s)
            last -= last * s >= size[axis] + pads[axis][0]
            end = last * s + window
            x = np.take(x, range(min(end, x.shape[axis])), axis)
            x = np.pad(x, [(0, end - x.shape[axis] if a == axis else 0) for a in range(4)], constant_values=fill)
    return windows(x, kernel, strides, dilation)


def _max_pool2d(attrs, x):
    x = _reorder(x, attrs.layout, "NHWC")
    low = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    return _reorder(_pool_windows(attrs, x, low).max((4, 5)), "NHWC", attrs.out_layout or attrs.layout)


def _avg_pool2d(attrs, x):
    x = _reorder(x, attrs.layout, "NHWC")
    total = _pool_windows(attrs, _wide(x), 0).sum((4, 5))
    count = _pool_windows(attrs, np.ones((1, *x.shape[1:3], 1)), 0, float(attrs.count_include_pad)).sum((4, 5))
    return _reorder(total / count, "NHWC", attrs.out_layout or attrs.layout)


def _adaptive_avg_pool2d(attrs, x):
    x = _wide(_reorder(x, attrs.layout, "NHWC"))
    oh, ow = (int(v) for v in attrs.output_size) if attrs.output_size else x.shape[1:3]
    h, w = x.shape[1:3]
    rows = [x[:, i * h // oh : -(-(i + 1) * h // oh)] for i in range(oh)]
    out = [[r[:, :, j * w // ow : -(-(j + 1) * w // ow)].mean((1, 2)) for j in range(ow)] for r in rows]
    return _reorder(np.stack([np.stack(r, 1) for r in out], 1), "NHWC", attrs.out_layout or attrs.layout)


def _source_positions(size: int, target: int, mode: str) -> np.ndarray:
    """Return where each target position lies on the source axis."""
    i = np.arange(target, dtype=np.float32)
    scale = np.float32(size) / np.float32(target)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and target > 1):
        return (i + np.float32(0.5)) * scale - np.float32(0.5)
    if mode == "pytorch_half_pixel":
        return np.zeros_like(i)
    if mode == "align_corners":
        return i * (np.float32(size - 1) / np.float32(max(target - 1, 1)))
    if mode == "asymmetric":
        return i * scale
    if mode == "tf_half_pixel_for_nn":
        return (i + np.float32(0.5)) * scale
    raise InternalError(f"resize2d with coordinate mode {mode!r} has no NumPy meaning here.")


_ROUNDING: dict[str, Callable] = {
    "round": np.rint,
    "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
    "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
    "floor": lambda p: np.floor(p + np.float32(1e-5)),  # the slack is in the operator's definition
    "ceil": lambda p: np.ceil(p - np.float32(1e-5)),
}


def _resize_axis(attrs, x, axis, target):
    """Resize one axis; nearest and linear are separable."""
    size = x.shape[axis]
    position = _source_positions(size, target, attrs.coordinate_transformation_mode)
    if attrs.method == "nearest_neighbor":
        index = np.clip(_ROUNDING[attrs.rounding_method or "round"](position).astype(np.int64), 0, size - 1)
        return np.take(x, index, axis)
    if attrs.method != "linear":
        raise InternalError(f"resize2d with method {attrs.method!r} has no NumPy meaning here; nearest_neighbor and linear have.")
    below = np.floor(position)
    t = (position - below).astype(x.dtype).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    low, high = (np.take(x, np.clip(below.astype(np.int64) + k, 0, size - 1), axis) for k in (0, 1))
    return low * (1 - t) + high * t


def _resize2d(attrs, x, size):
    layout = attrs.layout
    for letter, target in zip("HW", size):
        x = _resize_axis(attrs, x, layout.index(letter), int(target))
    return x


WINDOWED: dict[str, Callable] = {
    "relax.nn.conv2d": _conv2d,
    "relax.nn.conv2d_transpose": _conv2d_transpose,
    "relax.nn.max_pool2d": _max_pool2d,
    "relax.nn.avg_pool2d": _avg_pool2d,
    "relax.nn.adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "relax.image.resize2d": _resize2d,
}
"""Full operator name to ``f(attrs, *arrays)``; the result may be wider than the operator's type."""
