"""FoldLogic: cases that cannot occur leave the tables of boolean functions.

Where a plain Sign meets logic its 0 is a third case. Thresholds on integers, and the user's word, then rule most zeros out, and what is computed from
two-valued codes alone need not hold a 0 any longer, nor a second plane of bits::

    c = bnn.logic(a, b, table=[1, 1, 1, 1, 0, 0, 1, 0, -1], levels=[3, 3])     ->     c = bnn.logic(a, b, table=[1, 1, 1, -1], levels=[2, 2])
"""

from __future__ import annotations

import numpy as np
import tvm

from bnncc.ops import bnn, is_bnn
from bnncc.passes.code_range import CodeRange, code_range
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter

__all__ = ["fold_logic"]

_SIGNS = CodeRange(-1, 1, 2)


class _FoldLogic(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "logic"):
            return None
        levels = [int(n) for n in value.attrs.levels]
        # what the inputs take now: they were rewritten before
        taken = [2 if code_range(a, builder.values.get) == _SIGNS else n for n, a in zip(levels, value.args, strict=True)]
        if taken == levels:
            return None
        cases = np.array([int(v) for v in value.attrs.table]).reshape(levels[::-1])  # the first input's digit counts least
        for axis, (before, now) in enumerate(zip(levels, taken, strict=True)):
            if now < before:
                cases = cases.take([0, 2], axis=cases.ndim - 1 - axis)
        return bnn.logic(*value.args, table=cases.reshape(-1).tolist(), levels=taken)


def fold_logic(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Restrict the tables of boolean functions to what their inputs can hold."""
    return _FoldLogic(mod).run()
