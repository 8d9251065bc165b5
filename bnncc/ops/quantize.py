"""``bnn.quantize``: multi-threshold; binarize is the case of one threshold with levels -1 and +1, n thresholds make n + 1 levels."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["QuantizeAttrs", "quantize_reference"]


@py_class("bnncc.QuantizeAttrs", structural_eq="tree", frozen=True)
class QuantizeAttrs(tvm.ir.Attrs):
    """Lowest code, the distance of two codes, and whether a code of 0 is what a plain ONNX Sign leaves at 0 (not a level of a ternary quantizer)."""

    lo: int
    step: int
    sign: int = 0


def quantize_reference(attrs, x: np.ndarray, thresholds: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Return ``lo + step * #{i : flip * x >= flip * thresholds[i]}`` as int8.

    Parameters
    ----------
    x : ndarray, any shape, float32 or int32
    thresholds : ndarray, shape (n, ...), dtype of x
        ``thresholds[i]`` broadcasts against `x`.
    flip : ndarray, int8, broadcasts against `x`
        +1 where the code grows with `x` (``x >= t`` counts), -1 where it falls (``x <= t`` counts).
    """
    count = np.zeros(np.broadcast_shapes(x.shape, thresholds.shape[1:], flip.shape), np.int32)
    for t in thresholds:
        count += np.where(flip > 0, x >= t, x <= t)
    return (attrs.lo + attrs.step * count).astype(np.int8)


def _infer(call: relax.Call) -> relax.Type:
    x, thresholds, flip = call.args
    require(dtype_of(x) == dtype_of(thresholds), f"quantize: thresholds are {dtype_of(thresholds)}, the input {dtype_of(x)}")
    require(dtype_of(flip) == "int8", "quantize: flip must be int8")
    shape = np.broadcast_shapes(static_shape(x), static_shape(thresholds)[1:], static_shape(flip))
    return relax.TensorType(shape, "int8")


def _build(op):
    def quantize(x, thresholds, flip, lo=-1, step=2, sign=0):
        return relax.Call(op, [x, thresholds, flip], QuantizeAttrs(lo, step, int(sign)))

    return quantize


define_op("quantize", _build, _infer, quantize_reference)
