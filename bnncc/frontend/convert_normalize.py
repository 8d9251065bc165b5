"""Batch normalization, in the arithmetic of onnxruntime's CPU kernel."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of, converts
from bnncc.frontend.onnx_graph import title
from bnncc.frontend.values import check_finite


@converts("BatchNormalization")
def convert_batch_normalization(c: Conversion) -> relax.Expr:
    """``x * s + b`` with ``s = (1 / sqrt(var + eps)) * scale`` and ``b = B - mean * s``, each step rounded to float32.

    Notes
    -----
    The order of the operations matters: a binary network takes the sign of this. onnxruntime multiplies by the inverse, it
    does not divide the scale by the root.

    Raises
    ------
    ModelValueError
        A negative variance, or an overflow.
    """
    if c.attributes.get("training_mode", 0):
        raise c.unsupported("training_mode=1 is not supported. Export the model in inference mode (model.eval()).")
    if c.attributes.get("spatial", 1) == 0:
        raise c.unsupported("spatial=0 is not supported. Export the model with opset 9 or newer.")
    scale, shift, mean, variance = (c.constant(i, what) for i, what in enumerate(("scale", "bias", "mean", "variance"), start=1))
    f32 = np.float32
    with np.errstate(all="ignore"):
        inverse = f32(1) / np.sqrt(variance.astype(f32) + f32(c.attributes.get("epsilon", 1e-5)))
        s = inverse * scale.astype(f32)
        b = shift.astype(f32) - mean.astype(f32) * s
    check_finite(c.node.output[0], np.stack([s, b]), origin=f" (scale and offset of {title(c.node)})")
    broadcast = [1, -1] + [1] * (len(c.shape(c[0])) - 2)
    return R.add(c.emit(R.multiply(c[0], constant_of(s.reshape(broadcast)))), constant_of(b.reshape(broadcast)))
