"""FoldSums: a quantizer of a sum of two code tensors becomes integer thresholds on the integer sum.

Two accumulators rounded to int4 and added with saturation, then a sign: clip, offset, scale and comparison disappear in a threshold a channel. Proven, not
assumed: the source's own operators are evaluated on every pair of codes; the result has to depend on the integer sum alone and to rise or fall with it. Else
the chain stays::

    x = bnn.dequantize(a, s, 0)                     i = astype(add(a, b), "int32")
    y = bnn.dequantize(b, s, 0)           ->        q = bnn.quantize(i, integer thresholds, flip)
    z = add(x, y)
    q = bnn.quantize(z, thresholds, flip)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.passes.chains import ChainRewriter
from bnncc.passes.code_range import code_range
from bnncc.passes.context import PassContext
from bnncc.passes.integer_steps import IntegerSteps, integer_thresholds
from bnncc.passes.rewrite import Builder, const, constant, op_name

__all__ = ["fold_sums"]

_SUMS = {"relax.add": (op.add, 1), "relax.subtract": (op.subtract, -1)}
_MOST_PAIRS = 1 << 16
_LARGEST_TABLE = 1 << 26
"""Evaluations a fold may cost; above, the chain stays."""


class _Fold(ChainRewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod, ctx)
        self.sums: dict[relax.Var, relax.Var] = {}

    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "quantize") or dtype_of(value.args[0]) == "int32":
            return None
        root = self.chains.root[var]
        terms = self._terms(root)
        if terms is None:
            return None
        sign = _SUMS[op_name(self.graph.value(root))][1]
        first, second = (code_range(t, self.graph.value).codes for t in terms)
        shape = self.chains.constant_shape(var, root)
        if len(first) * len(second) > _MOST_PAIRS or len(first) * len(second) * int(np.prod(shape)) > _LARGEST_TABLE:
            return None
        a, b = (pairs.reshape(-1) for pairs in np.meshgrid(first, second, indexing="ij"))
        total = a.astype(np.int32) + sign * b.astype(np.int32)
        order = np.argsort(total, kind="stable")
        points = {t: codes[order].reshape(-1, *(1,) * len(shape)).astype(dtype_of(t)) for t, codes in zip(terms, (a, b), strict=True)}
        made = np.broadcast_to(self.chains.evaluate(var, points), (len(order), *shape)).astype(np.int32)
        sums, starts = np.unique(total[order], return_index=True)
        same_sum = np.diff(total[order]) == 0
        if np.any(np.diff(made, axis=0)[same_sum]):
            return None  # not a function of the sum: what each of two codes adds differs
        attrs = self.graph.value(var).attrs
        points = sums.reshape(-1, *(1,) * len(shape))
        found = integer_thresholds(IntegerSteps(points, points, made[starts]), attrs.lo, attrs.step, static_shape(value.args[1])[0])
        if found is None:
            self.ctx.warn(f"{self.ctx.onnx_name(var.name)}: the chain from a sum of codes is not monotone in every channel; it stays in float.")
            return None
        return bnn.quantize(self._sum(root, terms, builder), const(found[0]), const(found[1]), attrs.lo, attrs.step, attrs.sign)

    def _terms(self, root) -> tuple[relax.Var, relax.Var] | None:
        """Return the two code tensors that `root` is the sum or the difference of, each in its own scale."""
        made = self.graph.value(root)
        if op_name(made) not in _SUMS or static_shape(root) != static_shape(made.args[0]) or static_shape(root) != static_shape(made.args[1]):
            return None
        parts = [self.graph.value(a) for a in made.args]
        if not all(is_bnn(p, "dequantize") and constant(p.args[1]).size == constant(p.args[2]).size == 1 for p in parts):
            return None
        first, second = (p.args[0] for p in parts)
        return None if first.same_as(second) else (first, second)

    def _sum(self, root, terms, builder):
        """Return the sum as int32; codes that need no more are added as int8, so that no cast of one of them leaves the kernel that makes it."""
        if root not in self.sums:
            join, sign = _SUMS[op_name(self.graph.value(root))]
            codes = [self.mapping.get(t, t) for t in terms]
            first, second = (code_range(t, self.graph.value) for t in terms)
            ends = [a + sign * b for a in (first.lo, first.hi) for b in (second.lo, second.hi)]
            if not {"int8"} == {dtype_of(t) for t in terms} or min(ends) < -128 or max(ends) > 127:
                codes = [builder.emit(op.astype(c, "int32"), f"{t.name}_i32") for c, t in zip(codes, terms, strict=True)]
            total = builder.emit(join(*codes), f"{root.name}_sum")
            self.sums[root] = total if dtype_of(total) == "int32" else builder.emit(op.astype(total, "int32"), f"{root.name}_sum_i32")
        return self.sums[root]


def fold_sums(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Fold what lies between a sum of two code tensors and a quantizer into thresholds on the integer sum, proven on every pair of codes."""
    return _Fold(mod, ctx).run()
