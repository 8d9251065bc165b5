"""``bnn.dequantize``: the real value that a code stands for."""

from __future__ import annotations

import numpy as np
from tvm import relax

from bnncc.ops.conv2d import ACTIVATIONS
from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["dequantize_reference"]


def dequantize_reference(attrs, x: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return ``x * scale + offset`` in float32; x int8, uint8 or int16, scale and offset float32 that broadcast against x."""
    return x.astype(np.float32) * scale + offset


def _infer(call: relax.Call) -> relax.Type:
    x, scale, offset = call.args
    require(dtype_of(x) in ACTIVATIONS, f"dequantize: codes must be {', '.join(ACTIVATIONS)}")
    require(dtype_of(scale) == "float32" and dtype_of(offset) == "float32", "dequantize: scale and offset must be float32")
    require(
        np.broadcast_shapes(static_shape(x), static_shape(scale), static_shape(offset)) == static_shape(x),
        "dequantize: scale and offset must broadcast against the codes",
    )
    return relax.TensorType(static_shape(x), "float32")


define_op("dequantize", lambda op: lambda x, scale, offset: relax.Call(op, [x, scale, offset]), _infer, dequantize_reference)
