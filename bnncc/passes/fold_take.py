"""FoldTake: quantizers of repeated channels read the channels once.

BoolNet's k-slice sign compares every channel with k thresholds. It arrives as channels repeated k times (``take``) and one quantizer over all of them, which would keep
a float tensor of k times the size between an accumulator and its thresholds::

    t = take(x, [0 .. C-1] * k, axis=3)              q0 = bnn.quantize(x, thresholds[:, :C], flip)
    q = bnn.quantize(t, thresholds, flip)     ->     q1 = bnn.quantize(x, thresholds[:, C:], flip)
                                                     q = concat((q0, q1), axis=3)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import is_bnn, static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, const, constant, op_name

__all__ = ["fold_take"]


class _FoldTake(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "quantize") or not isinstance(value.args[0], relax.Var):
            return None
        take = builder.values.get(value.args[0])
        if op_name(take) != "relax.take" or take.attrs.axis is None:
            return None
        x, index = take.args[0], constant(take.args[1])
        rank, channels = len(static_shape(x)), static_shape(x)[-1]
        if int(take.attrs.axis) % rank != rank - 1 or index is None or index.ndim != 1 or len(index) % channels:
            return None
        blocks = index.reshape(-1, channels)
        if len(blocks) < 2 or not np.all(blocks == np.arange(channels)):
            return None
        thresholds, flip = constant(value.args[1]), constant(value.args[2])
        parts = []
        for i in range(len(blocks)):
            span = slice(i * channels, (i + 1) * channels)
            t, f = (a[..., span] if a.ndim > low and a.shape[-1] == len(index) else a for a, low in ((thresholds, 1), (flip, 0)))
            part = relax.Call(value.op, [x, const(t), const(f)], value.attrs)
            parts.append(builder.emit(part, f"{var.name}_slice"))
        return op.concat(parts, axis=rank - 1)


def fold_take(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Quantize repeated channels from the channels themselves, once for each repetition."""
    return _FoldTake(mod).run()
