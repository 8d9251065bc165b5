"""FoldPool: a float max pool in front of a quantizer becomes a pool of bits behind it.

A monotone function commutes with the maximum, and a falling one turns it into a minimum. The quantizer's direction is known channel by channel, so::

    p = nn.max_pool2d(x)                          q = bnn.quantize(x, thresholds, flip)
    q = bnn.quantize(p, thresholds, flip)   ->    p = bnn.max_pool2d(q, flip)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import bnn, is_bnn, static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, const, constant, op_name
from bnncc.passes.sink_dequantize import pool_padding

__all__ = ["fold_pool"]


class _FoldPool(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "quantize"):
            return None
        pool = builder.values.get(value.args[0]) if isinstance(value.args[0], relax.Var) else None
        if op_name(pool) != "relax.nn.max_pool2d" or pool.attrs.layout != "NHWC":
            return None
        shape = static_shape(pool.args[0])
        thresholds, flip = constant(value.args[1]), constant(value.args[2])
        # thresholds that vary over the pooled map have no place before the pool
        if any(np.prod(a.shape[:-1], dtype=int) > 1 for a in (thresholds[0], flip)):
            return None
        code = builder.emit(relax.Call(value.op, [pool.args[0], *value.args[1:]], value.attrs), f"{var.name}_unpooled")
        direction = np.ascontiguousarray(np.broadcast_to(flip.reshape(-1), (shape[3],)))
        attrs = pool.attrs
        padding = pool_padding(attrs, shape, static_shape(value.args[0]))
        return bnn.max_pool2d(code, const(direction), attrs.pool_size, attrs.strides, padding, attrs.dilation)


def fold_pool(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Move max pools behind the quantizers that read them."""
    return _FoldPool(mod).run()
