"""FoldPool: a float max pool in front of a quantizer becomes a pool of bits behind it.

A monotone function commutes with the maximum, and a falling one turns it into a minimum. The quantizer's direction is known channel by channel, and what stands
elementwise between the pool and the quantizer is inside the thresholds (steps.py), so::

    p = nn.max_pool2d(x)                           q = bnn.quantize(x, thresholds of both, flip)
    y = multiply(p, gamma)                         p = bnn.max_pool2d(q, flip)
    q = bnn.quantize(y, thresholds, flip)    ->
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import bnn, is_bnn, static_shape
from bnncc.passes.chains import Chains
from bnncc.passes.context import PassContext
from bnncc.passes.recognise_quantize import code_quantizer
from bnncc.passes.rewrite import Builder, Rewriter, const, constant, op_name
from bnncc.passes.sink_dequantize import pool_padding
from bnncc.passes.steps import StepAnalysis

__all__ = ["fold_pool"]


class _FoldPool(Rewriter):
    def __init__(self, mod):
        super().__init__(mod)
        self.chains = Chains(self.graph)

    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "quantize"):
            return None
        root = self.chains.root[var]
        pooled = self.mapping.get(root)
        pool = builder.values.get(pooled)
        if op_name(pool) != "relax.nn.max_pool2d" or pool.attrs.layout != "NHWC":
            return None
        shape = static_shape(pool.args[0])
        value = self._of_root(var, root, value)
        if value is None:
            return None
        thresholds, flip = constant(value.args[1]), constant(value.args[2])
        # thresholds that vary over the pooled map have no place before the pool
        if any(np.prod(a.shape[:-1], dtype=int) > 1 for a in (thresholds[0], flip)):
            return None
        code = builder.emit(relax.Call(value.op, [pool.args[0], *value.args[1:]], value.attrs), f"{var.name}_unpooled")
        direction = np.ascontiguousarray(np.broadcast_to(flip.reshape(-1), (shape[3],)))
        attrs = pool.attrs
        padding = pool_padding(attrs, shape, static_shape(pooled))
        return bnn.max_pool2d(code, const(direction), attrs.pool_size, attrs.strides, padding, attrs.dilation)

    def _of_root(self, var, root, value):
        """Return the quantizer as one of `root`, with the chain between inside its thresholds; None where that is no quantizer."""
        if self.graph.value(var).args[0].same_as(root):
            return value
        steps = StepAnalysis(self.chains, root).steps_of(var)
        if steps is None:
            return None
        a = self.graph.value(var).attrs
        q = code_quantizer(steps, a.lo, a.step, static_shape(value.args[1])[0])
        return None if q is None else relax.Call(value.op, [self.mapping[root], const(q.thresholds), const(q.flip)], value.attrs)


def fold_pool(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Move max pools behind the quantizers that read them."""
    return _FoldPool(mod).run()
