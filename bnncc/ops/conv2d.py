"""``bnn.conv2d`` and ``bnn.dense``: small-integer activations and weights, exact int32 accumulators."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.geometry import image_size, pad_widths, windows
from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["ACTIVATIONS", "Conv2dAttrs", "conv2d_reference", "dense_reference", "infer_conv2d"]


ACTIVATIONS = ("int8", "uint8", "int16")
"""Element types of activations: codes, and codes widened for the kernels."""

WEIGHTS = ("int8", "int16")
"""Element types of weights; the wider one holds the odd numbers up to 255 that bipolar weights of 8 bits are."""


@py_class("bnncc.Conv2dAttrs", structural_eq="tree", frozen=True)
class Conv2dAttrs(tvm.ir.Attrs):
    """NHWC and OHWI; `padding` is top, left, bottom, right, filled with `pad_code`."""

    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    pad_code: int


def conv2d_reference(attrs, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Convolve.

    Parameters
    ----------
    x : ndarray, int8, uint8 or int16, shape (N, H, W, Ci)
    w : ndarray, int8 or int16, shape (Co, KH, KW, Ci // groups)

    Returns
    -------
    ndarray, int32, shape (N, OH, OW, Co)
    """
    x = np.pad(x, pad_widths(attrs.padding), constant_values=attrs.pad_code)
    # such sums are exact in float64, and BLAS is far quicker than integer einsum
    view = windows(x.astype(np.float64), w.shape[1:3], attrs.strides, attrs.dilation)
    ci, co = w.shape[3], w.shape[0] // attrs.groups
    out = [
        np.einsum("nyxcij,oijc->nyxo", view[:, :, :, g * ci : (g + 1) * ci], w[g * co : (g + 1) * co].astype(np.float64), optimize=True)
        for g in range(attrs.groups)
    ]
    return np.concatenate(out, axis=3).astype(np.int32)


def dense_reference(attrs, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return ``x @ w.T`` as int32; x (N, K) of `ACTIVATIONS`, w (M, K) of `WEIGHTS`."""
    return (x.astype(np.float64) @ w.astype(np.float64).T).astype(np.int32)


def _require_integers(name: str, x, w) -> None:
    require(dtype_of(x) in ACTIVATIONS and dtype_of(w) in WEIGHTS, f"{name}: activations must be {', '.join(ACTIVATIONS)}, weights {', '.join(WEIGHTS)}")


def infer_conv2d(call: relax.Call) -> relax.Type:
    """Return the type of a convolution of integers, of ``bnn.conv2d`` or what shares its attributes."""
    x, w = call.args
    a = call.attrs
    n, h, width, ci = static_shape(x)
    co, kh, kw, ciw = static_shape(w)
    _require_integers("conv2d", x, w)
    require(ci == ciw * a.groups, f"conv2d: {ci} input channels, but {a.groups} groups of {ciw}")
    require(co % a.groups == 0, f"conv2d: {co} output channels in {a.groups} groups")
    oh, ow = image_size((h, width), (kh, kw), a, a.padding)
    return relax.TensorType((n, oh, ow, co), "int32")


def _infer_dense(call: relax.Call) -> relax.Type:
    x, w = call.args
    _require_integers("dense", x, w)
    require(static_shape(x)[1] == static_shape(w)[1], f"dense: {static_shape(x)} against weights {static_shape(w)}")
    return relax.TensorType((static_shape(x)[0], static_shape(w)[0]), "int32")


def _build_conv2d(op):
    def conv2d(x, w, strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, pad_code=0):
        return relax.Call(op, [x, w], Conv2dAttrs(tuple(strides), tuple(padding), tuple(dilation), groups, pad_code))

    return conv2d


define_op("conv2d", _build_conv2d, infer_conv2d, conv2d_reference)
define_op("dense", lambda op: lambda x, w: relax.Call(op, [x, w]), _infer_dense, dense_reference)
