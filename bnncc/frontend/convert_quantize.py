"""QuantizeLinear and DequantizeLinear, spelled out."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of, converts


def _parameters(c: Conversion) -> tuple[GenericConst, np.ndarray | None]:
    """Return scale and zero point, shaped to broadcast along the node's axis."""
    if c.attributes.get("block_size", 0):
        raise c.unsupported("blocked quantization (block_size) is not supported, only one scale a tensor or an axis. Quantize per channel.")
    scale = c.constant(1, "scale")
    zero_point = c.constant(2, "zero point") if c.get(2) is not None else None
    if scale.size > 1:
        rank = len(c.shape(c[0]))
        shape = [1] * rank
        shape[c.attributes.get("axis", 1) % rank] = scale.size
        scale = scale.reshape(shape)
        zero_point = None if zero_point is None else zero_point.reshape(shape)
    else:
        scale = scale.reshape(())
        zero_point = None if zero_point is None else zero_point.reshape(())
    return constant_of(scale.astype(np.float32)), zero_point


@converts("QuantizeLinear")
def convert_quantize(c: Conversion) -> relax.Expr:
    """``saturate(round(x / scale) + zero point)``, halves to even."""
    scale, zero_point = _parameters(c)
    dtype = "uint8" if zero_point is None else str(zero_point.dtype)
    x = c.emit(R.round(c.emit(R.divide(c[0], scale))))
    if zero_point is not None and zero_point.any():
        x = c.emit(R.add(x, constant_of(zero_point.astype(np.float32))))
    limits = np.iinfo(dtype)
    return R.astype(c.emit(R.clip(x, limits.min, limits.max)), dtype)


@converts("DequantizeLinear")
def convert_dequantize(c: Conversion) -> relax.Expr:
    """``(q - zero point) * scale``."""
    scale, zero_point = _parameters(c)
    x = c.emit(R.astype(c[0], "float32"))
    if zero_point is not None and zero_point.any():
        x = c.emit(R.subtract(x, constant_of(zero_point.astype(np.float32))))
    return R.multiply(x, scale)
