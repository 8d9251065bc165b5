"""LowerDequantize: what is left of dequantize becomes plain float arithmetic, without the steps that do nothing.

::

    y = bnn.dequantize(c, 0.5, 0)     ->     f = astype(c, "float32")
                                             y = multiply(f, 0.5)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm.relax import op

from bnncc.ops import is_bnn
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, constant

__all__ = ["lower_dequantize"]


class _Lower(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "dequantize"):
            return None
        code, scale, offset = value.args
        result = op.astype(code, "float32")
        for make, operand, neutral in ((op.multiply, scale, 1), (op.add, offset, 0)):
            if np.any(constant(operand) != neutral):
                result = make(builder.emit(result, f"{var.name}_step"), operand)
        return result


def lower_dequantize(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Spell dequantize as a cast, a product and a sum."""
    return _Lower(mod).run()
