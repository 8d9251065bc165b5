"""``bnn.plane_conv2d`` and ``bnn.plane_dense``: exact sums of k-bit codes by k-bit weights as weighted popcounts of bit planes.

Codes and weights are sums of signs, ``2 x = a + sum_i p_i s_i`` and ``2 w = sum_j q_j t_j`` with s, t in {-1, +1} (`bnn.pack` with a `step`, and
`passes.bit_planes.weight_planes`). A dot product of L signs is ``L - 2 * popcount``, so that of the codes is::

    4 sum(x w) = sum_ij p_i q_j (L - 2 popcount(s_i ^ t_j)) + 2 a sum(w)
    sum(x w)   = (bias - sum_ij p_i q_j popcount(s_i ^ t_j)) / 2          bias = L sum_ij p_i q_j / 2 + a sum(w)

The offset of the codes and the windows of the weights are in `bias`, one number an output channel, so nothing is summed over the input at run time. Padding was
written as a code by ``bnn.packed_pad``; where no code says 0, `border` corrects it as in ``bnn.packed_conv2d``.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.geometry import image_size, windows
from bnncc.ops.pack import words_per_group
from bnncc.ops.registry import define_op, dtype_of, popcount, require, static_shape

__all__ = ["PlaneConv2dAttrs", "PlaneDenseAttrs", "plane_conv2d_reference", "plane_dense_reference"]


@py_class("bnncc.PlaneConv2dAttrs", structural_eq="tree", frozen=True)
class PlaneConv2dAttrs(tvm.ir.Attrs):
    """`channels` counts the input channels of all groups once; `input_scales` and `weight_scales` are p and q above, a number a plane."""

    channels: int
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    input_scales: tuple[int, ...]
    weight_scales: tuple[int, ...]


@py_class("bnncc.PlaneDenseAttrs", structural_eq="tree", frozen=True)
class PlaneDenseAttrs(tvm.ir.Attrs):
    """`channels` is the length K of the dot product."""

    channels: int
    input_scales: tuple[int, ...]
    weight_scales: tuple[int, ...]


def plane_conv2d_reference(attrs, x: np.ndarray, w: np.ndarray, bias: np.ndarray, border=None, row_class=None, col_class=None) -> np.ndarray:
    """Convolve planes.

    Parameters
    ----------
    x : ndarray, uint, shape (N, H, W, input planes * groups * words)
        Already padded.
    w : ndarray, uint, shape (weight planes * Co, KH, KW, words)
        All channels of a plane before those of the next.
    bias : ndarray, int32, shape (Co,)
    border, row_class, col_class : ndarray, int32, optional
        Added to the accumulator as ``bnn.packed_conv2d`` adds them.

    Returns
    -------
    ndarray, int32, shape (N, OH, OW, Co)
    """
    kh, kw, words = w.shape[1:]
    view = windows(x, (kh, kw), attrs.strides, attrs.dilation)
    outputs, group_outputs = len(bias), len(bias) // attrs.groups
    total = np.zeros((*view.shape[:3], outputs), np.int64)
    for i, p in enumerate(attrs.input_scales):
        for j, q in enumerate(attrs.weight_scales):
            for o in range(outputs):
                first = (i * attrs.groups + o // group_outputs) * words
                taps = view[:, :, :, first : first + words] ^ w[j * outputs + o].transpose(2, 0, 1)
                total[..., o] += p * q * popcount(taps).sum((3, 4, 5))
    out = (bias - total) // 2
    if border is not None:
        out = out + border[row_class[:, None], col_class[None, :]]
    return out.astype(np.int32)


def plane_dense_reference(attrs, x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the dot products, int32 (N, M), of planes x (N, input planes * words) and w (weight planes * M, words)."""
    total = np.zeros((len(x), len(bias)), np.int64)
    for p, plane in zip(attrs.input_scales, np.split(x, len(attrs.input_scales), axis=-1), strict=True):
        for q, signs in zip(attrs.weight_scales, np.split(w, len(attrs.weight_scales)), strict=True):
            total += p * q * popcount(plane[:, None, :] ^ signs[None]).sum(2)
    return ((bias - total) // 2).astype(np.int32)


def _require_words(name: str, x, w, bias, attrs) -> int:
    """Check what both operators share; return how many output channels there are."""
    require(dtype_of(x) == dtype_of(w) and dtype_of(x).startswith("uint"), f"{name}: words of input and weights differ")
    outputs, planes = static_shape(w)[0], len(attrs.weight_scales)
    require(static_shape(bias) == (outputs // planes,) and outputs % planes == 0, f"{name}: {outputs} filters in {planes} planes, bias {static_shape(bias)}")
    return outputs // planes


def _infer_conv2d(call: relax.Call) -> relax.Type:
    x, w, bias = call.args[:3]
    a = call.attrs
    n, h, width, xw = static_shape(x)
    _, kh, kw, words = static_shape(w)
    outputs = _require_words("plane_conv2d", x, w, bias, a)
    require(words == words_per_group(a.channels, a.groups, int(dtype_of(x)[4:])), f"plane_conv2d: {words} words a tap for {a.channels} channels")
    require(xw == words * a.groups * len(a.input_scales), f"plane_conv2d: {xw} words a pixel for {len(a.input_scales)} planes of {a.groups} x {words}")
    require(len(call.args) in (3, 6), "plane_conv2d: border comes with row_class and col_class")
    oh, ow = image_size((h, width), (kh, kw), a)
    return relax.TensorType((n, oh, ow, outputs), "int32")


def _infer_dense(call: relax.Call) -> relax.Type:
    x, w, bias = call.args
    outputs = _require_words("plane_dense", x, w, bias, call.attrs)
    require(static_shape(x)[1] == len(call.attrs.input_scales) * static_shape(w)[1], "plane_dense: input and weights differ in words")
    return relax.TensorType((static_shape(x)[0], outputs), "int32")


def _build_conv2d(op):
    def plane_conv2d(x, w, bias, *border, channels, input_scales, weight_scales, strides=(1, 1), dilation=(1, 1), groups=1):
        attrs = PlaneConv2dAttrs(channels, tuple(strides), tuple(dilation), groups, tuple(input_scales), tuple(weight_scales))
        return relax.Call(op, [x, w, bias, *border], attrs)

    return plane_conv2d


def _build_dense(op):
    def plane_dense(x, w, bias, channels, input_scales, weight_scales):
        return relax.Call(op, [x, w, bias], PlaneDenseAttrs(channels, tuple(input_scales), tuple(weight_scales)))

    return plane_dense


define_op("plane_conv2d", _build_conv2d, _infer_conv2d, plane_conv2d_reference)
define_op("plane_dense", _build_dense, _infer_dense, plane_dense_reference)
