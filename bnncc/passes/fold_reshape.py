"""FoldReshape: a quantizer reads its tensor before it is flattened, so that nothing stands between an accumulator and its thresholds; codes are flattened.

Thresholds that are the same everywhere do not ask for the axes::

    r = reshape(x, (1, 64))                      q = bnn.quantize(x, thresholds, flip)
    q = bnn.quantize(r, thresholds, flip)   ->   r = reshape(q, (1, 64))
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import dtype_of, is_bnn, static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, constant, op_name

__all__ = ["fold_reshape"]


class _FoldReshape(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "quantize") or not isinstance(value.args[0], relax.Var):
            return None
        flat, thresholds, flip = value.args
        reshape = builder.values.get(flat)
        if op_name(reshape) != "relax.reshape" or dtype_of(flat) != "float32":
            return None
        if constant(thresholds).size != static_shape(thresholds)[0] or constant(flip).size != 1:
            return None
        limits = relax.const(constant(thresholds).reshape(-1), "float32")
        direction = relax.const(constant(flip).reshape(()), "int8")
        code = builder.emit(relax.Call(value.op, [reshape.args[0], limits, direction], value.attrs), f"{var.name}_unflattened")
        return op.reshape(code, static_shape(var))


def fold_reshape(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Quantize before reshapes where thresholds are the same everywhere."""
    return _FoldReshape(mod).run()
