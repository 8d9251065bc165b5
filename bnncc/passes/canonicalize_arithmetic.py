"""CanonicalizeArithmetic: spellings of one thing become one spelling, and residues of training cancel.

Straight-through estimators leave ``(sign(x) - clamp(x)) + clamp(x)`` behind: gradients need the second half, inference does not. Sums are
flattened, opposite terms cancel, and what remains of such a sum is its one live term::

    c = clip(x, -1, 1)                  s = sign(x)
    s = sign(x)                  ->
    d = subtract(s, c)
    y = add(d, c)                       (y is s)
"""

from __future__ import annotations

from collections import Counter

import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, const, op_name

__all__ = ["canonicalize_arithmetic"]

_MAX_TERMS = 16


class _Canonicalize(ContextRewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod, ctx)
        self.terms: dict[relax.Var, Counter] = {}

    def rewrite(self, var, value, builder: Builder):
        name = op_name(value)
        if name in ("relax.add", "relax.subtract", "relax.negative"):
            return self._cancel(var, value, builder)
        if name == "relax.divide":
            return self._sign_by_division(var, value, builder)
        return None

    def _sum(self, value) -> Counter | None:
        if not all(isinstance(a, relax.Var) for a in value.args):
            return None
        second = -1 if op_name(value) == "relax.subtract" else 1
        total: Counter = Counter()
        for sign, arg in zip((-1,) if op_name(value) == "relax.negative" else (1, second), value.args, strict=True):
            for term, count in self.terms.get(arg, Counter({arg: 1})).items():
                total[term] += sign * count
        return total

    def _cancel(self, var, value, builder):
        total = self._sum(value)
        if total is None:
            return None
        left = Counter({term: count for term, count in total.items() if count})
        if len(left) == 1:
            ((term, count),) = left.items()
            if count == 1 and static_shape(term) == static_shape(var):
                return term
        bound = builder.bind(value, var.name)
        if len(left) <= _MAX_TERMS:
            self.terms[bound] = left
        return bound

    def _sign_by_division(self, var, value, builder):
        """Turn ``x / abs(x)`` into a comparison: the source is NaN at 0, and +1 is as good as anything."""
        x, y = value.args
        inner = builder.values.get(y) if isinstance(y, relax.Var) else None
        if op_name(inner) != "relax.abs" or not isinstance(x, relax.Var) or not inner.args[0].same_as(x):
            return None
        self.ctx.warn(f"{self.ctx.onnx_name(var.name)}: x / abs(x) is NaN at 0 in the model; bnncc takes +1 there.")
        positive = builder.emit(op.greater_equal(x, const(0.0, "float32")), "positive")
        return op.where(positive, const(1.0, "float32"), const(-1.0, "float32"))


def canonicalize_arithmetic(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Cancel residues of straight-through estimators and unify the spellings of signs."""
    return _Canonicalize(mod, ctx).run()
