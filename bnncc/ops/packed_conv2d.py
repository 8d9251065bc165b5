"""``bnn.packed_conv2d`` and ``bnn.packed_dense``: xor-popcount accumulators of packed words.

Codes of -1, 0, +1 come as two planes of words (pack.py); with them the result is half the sum of both planes' dot products. A kernel need not spend that: where
the planes are equal everywhere, which is where no code is 0, one of them is all there is to compute.

A dot product of K signs is ``K - 2 * popcount(x ^ w)`` (the back-transform). Padding has been written into the input by
``bnn.packed_pad`` before; where the model pads with a real 0, which is neither bit value, the padded taps count as +1 and `border` takes them out again.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.geometry import image_size, windows
from bnncc.ops.pack import PackAttrs, pack_reference, unpack_reference, words_per_group
from bnncc.ops.registry import define_op, dtype_of, popcount, require, static_shape

__all__ = ["PackedConv2dAttrs", "PackedDenseAttrs", "packed_conv2d_reference", "packed_dense_reference"]


@py_class("bnncc.PackedConv2dAttrs", structural_eq="tree", frozen=True)
class PackedConv2dAttrs(tvm.ir.Attrs):
    """`channels` counts the input channels of all groups, once where there are two planes; `in_groups` of them start a word each in the input: `groups`, or
    1."""

    channels: int
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    planes: int
    in_groups: int


@py_class("bnncc.PackedDenseAttrs", structural_eq="tree", frozen=True)
class PackedDenseAttrs(tvm.ir.Attrs):
    """`channels` is the length K of the dot product."""

    channels: int
    planes: int = 1


def packed_conv2d_reference(attrs, x: np.ndarray, w: np.ndarray, border=None, row_class=None, col_class=None) -> np.ndarray:
    """Convolve packed signs.

    Parameters
    ----------
    x : ndarray, uint, shape (N, H, W, planes * groups * words)
        Already padded; group g holds the words ``g * words`` and on of each plane. With `in_groups` 1 fewer words, in which all channels stand in a row.
    w : ndarray, uint, shape (Co, KH, KW, words)
    border : ndarray, int32, shape (row classes, column classes, Co), optional
        Added to the accumulator at (y, x) as ``border[row_class[y], col_class[x]]``.
    row_class, col_class : ndarray, int32, shapes (OH,) and (OW,), optional

    Returns
    -------
    ndarray, int32, shape (N, OH, OW, Co)
    """
    out = sum(_plane_conv2d(attrs, plane, w) for plane in np.split(x, attrs.planes, axis=-1)) // attrs.planes
    if border is not None:
        out += border[row_class[:, None], col_class[None, :]]
    return out


def _plane_conv2d(attrs, x, w):
    co, kh, kw, words = w.shape
    if attrs.in_groups != attrs.groups:
        bits = x.dtype.itemsize * 8
        codes = unpack_reference(PackAttrs(attrs.channels, attrs.in_groups, bits), x)
        x = pack_reference(PackAttrs(attrs.channels, attrs.groups, bits), codes)
    view = windows(x, (kh, kw), attrs.strides, attrs.dilation)
    length = kh * kw * (attrs.channels // attrs.groups)
    out = np.empty((*view.shape[:3], co), np.int32)
    for o in range(co):
        g = o // (co // attrs.groups)
        taps = view[:, :, :, g * words : (g + 1) * words] ^ w[o].transpose(2, 0, 1)
        out[..., o] = length - 2 * popcount(taps).sum((3, 4, 5))
    return out


def packed_dense_reference(attrs, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the dot products of signs, int32 (N, M), of words x (N, planes * words) and w (M, words)."""
    planes = np.split(x, attrs.planes, axis=-1)
    return (sum(attrs.channels - 2 * popcount(p[:, None, :] ^ w[None]).sum(2) for p in planes) // attrs.planes).astype(np.int32)


def _infer_conv2d(call: relax.Call) -> relax.Type:
    x, w = call.args[:2]
    a = call.attrs
    n, h, width, xw = static_shape(x)
    co, kh, kw, words = static_shape(w)
    require(dtype_of(x) == dtype_of(w) and dtype_of(x).startswith("uint"), "packed_conv2d: words of input and weights differ")
    bits = int(dtype_of(x)[4:])
    require(words == words_per_group(a.channels, a.groups, bits), f"packed_conv2d: {words} words a tap for {a.channels} channels")
    require(a.in_groups in (1, a.groups), f"packed_conv2d: an input in {a.in_groups} groups for a convolution of {a.groups}")
    held = a.in_groups * words_per_group(a.channels, a.in_groups, bits)
    require(xw == held * a.planes, f"packed_conv2d: the input has {xw} words a pixel, {a.channels} channels in {a.in_groups} groups need {a.planes} x {held}")
    require(len(call.args) in (2, 5), "packed_conv2d: border comes with row_class and col_class")
    oh, ow = image_size((h, width), (kh, kw), a)
    if len(call.args) == 5:
        border, rows, cols = (static_shape(v) for v in call.args[2:])
        require(border[2] == co and rows == (oh,) and cols == (ow,), "packed_conv2d: border does not fit the output")
    return relax.TensorType((n, oh, ow, co), "int32")


def _infer_dense(call: relax.Call) -> relax.Type:
    x, w = call.args
    same = dtype_of(x) == dtype_of(w) and static_shape(x)[1] == call.attrs.planes * static_shape(w)[1]
    require(same, "packed_dense: input and weights differ in words")
    return relax.TensorType((static_shape(x)[0], static_shape(w)[0]), "int32")


def _build_conv2d(op):
    def packed_conv2d(x, w, *border, channels, strides=(1, 1), dilation=(1, 1), groups=1, planes=1, in_groups=None):
        held = groups if in_groups is None else in_groups
        return relax.Call(op, [x, w, *border], PackedConv2dAttrs(channels, tuple(strides), tuple(dilation), groups, planes, held))

    return packed_conv2d


define_op("packed_conv2d", _build_conv2d, _infer_conv2d, packed_conv2d_reference)
define_op(
    "packed_dense",
    lambda op: lambda x, w, channels, planes=1: relax.Call(op, [x, w], PackedDenseAttrs(channels, planes)),
    _infer_dense,
    packed_dense_reference,
)
