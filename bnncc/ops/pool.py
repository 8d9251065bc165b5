"""``bnn.max_pool2d`` on codes, and ``bnn.packed_max_pool2d`` on bits: AND where the maximum is wanted, OR where the minimum is."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.geometry import image_size, pad_widths, windows
from bnncc.ops.registry import define_op, require, static_shape

__all__ = ["PoolAttrs", "max_pool2d_reference", "packed_max_pool2d_reference"]


@py_class("bnncc.PoolAttrs", structural_eq="tree", frozen=True)
class PoolAttrs(tvm.ir.Attrs):
    """`padding` is top, left, bottom, right; padded positions take no part."""

    pool_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


def _windows(attrs, x, fill):
    x = np.pad(x, pad_widths(attrs.padding), constant_values=fill)
    return windows(x, attrs.pool_size, attrs.strides, attrs.dilation)


def max_pool2d_reference(attrs, x: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Return the maximum of each window, or the minimum in the channels where `flip` is -1.

    Parameters
    ----------
    x : ndarray, int8 or uint8, shape (N, H, W, C)
    flip : ndarray, int8, shape (C,)
    """
    limits = np.iinfo(x.dtype)
    return np.where(flip > 0, _windows(attrs, x, limits.min).max((4, 5)), _windows(attrs, x, limits.max).min((4, 5)))


def packed_max_pool2d_reference(attrs, x: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """The same on words, where bit 1 means -1.

    Parameters
    ----------
    x : ndarray, uint, shape (N, H, W, words)
    flip : ndarray, dtype of x, shape (words,)
        Bit 1 in the channels where the minimum is wanted.
    """
    ones = np.array(-1, np.int64).astype(x.dtype)
    # padding must not take part: all ones is neutral to AND, after the flip just as before it
    view = _windows(attrs, x ^ flip, ones)
    return np.bitwise_and.reduce(view.reshape(*view.shape[:4], -1), axis=4) ^ flip


def _infer(call: relax.Call) -> relax.Type:
    x, flip = call.args
    a = call.attrs
    n, h, w, c = static_shape(x)
    require(static_shape(flip) == (c,), f"max_pool2d: flip has shape {static_shape(flip)}, the input {c} channels")
    oh, ow = image_size((h, w), a.pool_size, a, a.padding)
    return relax.TensorType((n, oh, ow, c), x.ty.dtype)


def _build(op):
    def max_pool2d(x, flip, pool_size, strides, padding=(0, 0, 0, 0), dilation=(1, 1)):
        return relax.Call(op, [x, flip], PoolAttrs(list(pool_size), tuple(strides), tuple(padding), tuple(dilation)))

    return max_pool2d


define_op("max_pool2d", _build, _infer, max_pool2d_reference)
define_op("packed_max_pool2d", _build, _infer, packed_max_pool2d_reference)
