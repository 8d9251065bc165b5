"""NumPy meaning of Relax's operators that move, reduce, multiply and normalise tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnncc.errors import InternalError

__all__ = ["TENSOR"]


def _ints(values) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64 if np.issubdtype(x.dtype, np.floating) else np.int64)


def _axes(axis) -> tuple[int, ...] | None:
    return None if axis is None else _ints(axis)


def _reduce(f: Callable, widen: bool) -> Callable:
    def evaluate(attrs, x):
        return f(_wide(x) if widen else x, axis=_axes(attrs.axis), keepdims=bool(attrs.keepdims))

    return evaluate


_PAD_MODES = {"replicate": "edge", "reflect": "reflect", "circular": "wrap"}


def _pad(attrs, x):
    width = np.asarray(_ints(attrs.pad_width)).reshape(-1, 2)
    if (width < 0).any():  # a negative pad crops
        crop = tuple(slice(max(-int(lo), 0), n - max(-int(hi), 0)) for (lo, hi), n in zip(width, x.shape))
        x, width = x[crop], np.maximum(width, 0)
    mode = str(attrs.pad_mode)
    if mode == "constant":
        return np.pad(x, width, constant_values=np.asarray(float(attrs.pad_value)).astype(x.dtype))
    if mode not in _PAD_MODES:
        raise InternalError(f"nn.pad with mode {mode!r} has no NumPy meaning here; constant, {', '.join(_PAD_MODES)} have.")
    return np.pad(x, width, mode=_PAD_MODES[mode])


def _strided_slice(_, x, axes, begin, end, strides=None):
    index = [slice(None)] * x.ndim
    for axis, lo, hi, step in zip(axes, begin, end, strides if strides is not None else [1] * len(axes), strict=True):
        n = x.shape[axis]
        lo, hi = (v + n if v < 0 else v for v in (int(lo), int(hi)))
        # after the count from the end, what is still negative lies before the first element
        if step > 0:
            index[axis] = slice(min(max(lo, 0), n), min(max(hi, 0), n), int(step))
        else:
            index[axis] = slice(min(lo, n - 1), hi if hi >= 0 else None, int(step))
    return x[tuple(index)]


def _split(attrs, x):
    where = attrs.indices_or_sections
    parts = int(where) if not hasattr(where, "__len__") else list(_ints(where))
    return tuple(np.split(x, parts, int(attrs.axis)))


def _take(attrs, x, index):
    index = np.asarray(index).astype(np.int64)
    if attrs.axis is None:
        return np.take(x.reshape(-1), index)
    return np.take(x, index, int(attrs.axis))


def _softmax(attrs, x):
    e = np.exp(x - x.max(int(attrs.axis), keepdims=True))
    return e / e.sum(int(attrs.axis), keepdims=True)


def _log_softmax(attrs, x):
    shifted = x - x.max(int(attrs.axis), keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(int(attrs.axis), keepdims=True))


def _matmul(_, a, b):
    return np.matmul(_wide(a), _wide(b))


def _batch_norm(attrs, x, gamma, beta, mean, var):
    if attrs.training:
        raise InternalError("nn.batch_norm in training mode is no inference; the frontend imports it with the stored statistics.")
    shape = [1] * x.ndim
    shape[int(attrs.axis)] = -1
    gamma, beta, center, spread = (p.reshape(shape) for p in (gamma, beta, mean, var))
    out = (x - center) / np.sqrt(spread + np.asarray(attrs.epsilon).astype(x.dtype))
    if attrs.scale:
        out = out * gamma
    if attrs.center:
        out = out + beta
    return out, mean, var


def _layer_norm(attrs, x, gamma, beta):
    axes = _ints(attrs.axes)
    wide = _wide(x)
    normal = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + attrs.epsilon)
    return normal * gamma + beta


def _arg(f: Callable) -> Callable:
    def evaluate(attrs, x):
        axis = None if attrs.axis is None else int(attrs.axis)
        return f(x, axis=axis, keepdims=bool(attrs.keepdims))

    return evaluate


def _pixel_shuffle(attrs, x):
    r = int(attrs.upscale_factor)
    *n, c, h, w = x.shape
    parts = x.reshape(-1, c // (r * r), r, r, h, w)
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(*n, c // (r * r), h * r, w * r)


def _flatten(_, x):
    return x.reshape(-1)


def _batch_flatten(_, x):
    return x.reshape(x.shape[0], -1)


TENSOR: dict[str, Callable] = {
    "relax.argmax": _arg(np.argmax),
    "relax.argmin": _arg(np.argmin),
    "relax.broadcast_to": lambda _, x, shape: np.broadcast_to(x, shape),
    "relax.concat": lambda a, xs: np.concatenate(xs, 0 if a.axis is None else int(a.axis)),
    "relax.expand_dims": lambda a, x: np.expand_dims(x, _ints(a.axis)),
    "relax.flatten": _flatten,
    "relax.flip": lambda a, x: np.flip(x, int(a.axis)),
    "relax.full": lambda a, shape, fill: np.full(shape, fill),
    "relax.gather_elements": lambda a, x, index: np.take_along_axis(x, index.astype(np.int64), int(a.axis)),
    "relax.matmul": _matmul,
    "relax.max": _reduce(np.max, widen=False),
    "relax.mean": _reduce(np.mean, widen=True),
    "relax.min": _reduce(np.min, widen=False),
    "relax.nn.batch_flatten": _batch_flatten,
    "relax.nn.batch_norm": _batch_norm,
    "relax.nn.dropout": lambda _, x: (x, np.ones_like(x)),
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.log_softmax": _log_softmax,
    "relax.nn.pad": _pad,
    "relax.nn.pixel_shuffle": _pixel_shuffle,
    "relax.nn.softmax": _softmax,
    "relax.ones_like": lambda _, x: np.ones_like(x),
    "relax.permute_dims": lambda a, x: np.transpose(x, _axes(a.axes)),
    "relax.prod": _reduce(np.prod, widen=True),
    "relax.repeat": lambda a, x: np.repeat(x, int(a.repeats), None if a.axis is None else int(a.axis)),
    "relax.reshape": lambda _, x, shape: x.reshape(shape),
    "relax.split": _split,
    "relax.squeeze": lambda a, x: np.squeeze(x, _axes(a.axis)),
    "relax.stack": lambda a, xs: np.stack(xs, 0 if a.axis is None else int(a.axis)),
    "relax.std": _reduce(np.std, widen=True),
    "relax.strided_slice": _strided_slice,
    "relax.sum": _reduce(np.sum, widen=True),
    "relax.take": _take,
    "relax.tile": lambda a, x: np.tile(x, _ints(a.repeats)),
    "relax.variance": _reduce(np.var, widen=True),
    "relax.zeros_like": lambda _, x: np.zeros_like(x),
}
"""Full operator name to ``f(attrs, *arguments)``; shapes come as tuples, and the result may be wider than the operator's type."""
