"""``bnn.sign_conv2d`` and ``bnn.sign_dense``: activations by signs that are stored as bits, sums as of a layer with weights -1 and +1.

Real activations have float32 sums, small integers exact int32 ones. Of integers the attribute `codes` says which there are: kernels need to know what sums of
several come to.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.geometry import image_size, windows
from bnncc.ops.pack import PackAttrs, unpack_reference, words_per_group
from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["SignConv2dAttrs", "SignDenseAttrs", "sign_conv2d_reference", "sign_dense_reference"]

_CODES = ("int8", "uint8")


@py_class("bnncc.SignConv2dAttrs", structural_eq="tree", frozen=True)
class SignConv2dAttrs(tvm.ir.Attrs):
    """NHWC, no padding. Of integers `codes` are the least, the largest and the step between them, a power of two; empty for real numbers."""

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    codes: tuple[int, ...] = ()


@py_class("bnncc.SignDenseAttrs", structural_eq="tree", frozen=True)
class SignDenseAttrs(tvm.ir.Attrs):
    """`codes` as of `SignConv2dAttrs`."""

    codes: tuple[int, ...] = ()


def sign_conv2d_reference(attrs, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Convolve.

    Parameters
    ----------
    x : ndarray, float32, int8 or uint8, shape (N, H, W, Ci)
    w : ndarray, uint, shape (Co, KH, KW, words)
        Signs of the Ci // groups channels that a filter reads, as ``bnn.pack`` lays them out.

    Returns
    -------
    ndarray, float32 or int32, shape (N, OH, OW, Co)
    """
    dtype = _sum_type(str(x.dtype))
    depth, outputs = x.shape[3] // attrs.groups, len(w) // attrs.groups
    signs = unpack_reference(PackAttrs(depth, 1, 8 * w.itemsize), w).astype(dtype)
    view = windows(x.astype(dtype), w.shape[1:3], attrs.strides, attrs.dilation)
    out = [
        np.einsum("nyxcij,oijc->nyxo", view[:, :, :, g * depth : (g + 1) * depth], signs[g * outputs : (g + 1) * outputs], optimize=True)
        for g in range(attrs.groups)
    ]
    return np.concatenate(out, axis=3)


def sign_dense_reference(attrs, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return float32 or int32 (N, M) of x (N, K), float32 or codes, and the signs of M rows, words of shape (M, words)."""
    dtype = _sum_type(str(x.dtype))
    return x.astype(dtype) @ unpack_reference(PackAttrs(x.shape[1], 1, 8 * w.itemsize), w).astype(dtype).T


def _sum_type(dtype: str) -> str:
    return "float32" if dtype == "float32" else "int32"


def _require_words(name: str, x, w, depth: int, codes: tuple[int, ...]) -> None:
    dtype = dtype_of(x)
    require(dtype in ("float32", *_CODES) and dtype_of(w).startswith("uint"), f"{name}: activations must be float32 or {', '.join(_CODES)}, weights words")
    require(len(codes) == (3 if dtype in _CODES else 0), f"{name}: activations of {dtype} with codes {tuple(codes)}")
    words = words_per_group(depth, 1, int(dtype_of(w)[4:]))
    require(static_shape(w)[-1] == words, f"{name}: {static_shape(w)[-1]} words, but {depth} inputs take {words}")


def _infer_conv2d(call: relax.Call) -> relax.Type:
    x, w = call.args
    a = call.attrs
    n, h, width, channels = static_shape(x)
    outputs, kh, kw, _ = static_shape(w)
    require(channels % a.groups == 0 and outputs % a.groups == 0, f"sign_conv2d: {channels} input and {outputs} output channels in {a.groups} groups")
    _require_words("sign_conv2d", x, w, channels // a.groups, a.codes)
    oh, ow = image_size((h, width), (kh, kw), a)
    return relax.TensorType((n, oh, ow, outputs), _sum_type(dtype_of(x)))


def _infer_dense(call: relax.Call) -> relax.Type:
    x, w = call.args
    _require_words("sign_dense", x, w, static_shape(x)[1], call.attrs.codes)
    return relax.TensorType((static_shape(x)[0], static_shape(w)[0]), _sum_type(dtype_of(x)))


def _build_conv2d(op):
    def sign_conv2d(x, w, strides=(1, 1), dilation=(1, 1), groups=1, codes=()):
        return relax.Call(op, [x, w], SignConv2dAttrs(tuple(strides), tuple(dilation), groups, tuple(codes)))

    return sign_conv2d


define_op("sign_conv2d", _build_conv2d, _infer_conv2d, sign_conv2d_reference)
define_op("sign_dense", lambda op: lambda x, w, codes=(): relax.Call(op, [x, w], SignDenseAttrs(tuple(codes))), _infer_dense, sign_dense_reference)
