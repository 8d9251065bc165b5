"""NarrowDoubles: sums times their scale stay double where a rounding follows, which the last digits decide; elsewhere they become float32.

RecogniseBinary scales the sums of small integers in double, since a product of two scales has more digits than float32 holds. Thresholds are folded from that,
and what is left runs: in front of a rounding to codes as it is, on processors whose vectors hold doubles; else in half the bits::

    d = astype(n, "float64")                  f = astype(n, "float32")
    s = multiply(d, scale)            ->      y = multiply(f, scale)
    y = astype(s, "float32")
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import dtype_of
from bnncc.passes.chains import ELEMENTWISE
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant, op_name

__all__ = ["narrow_doubles"]

_ROUNDS = frozenset(f"relax.{name}" for name in "round floor ceil sign bnn.quantize".split())


class _Narrow(ContextRewriter):
    def rewrite(self, var, value, builder: Builder):
        if op_name(value) != "relax.astype" or dtype_of(var) != "float32" or dtype_of(self.graph.value(var).args[0]) != "float64":
            return None
        if self.ctx.options.has_doubles and self._is_rounded(var):
            return None
        return self._narrowed(value.args[0], builder)

    def _is_rounded(self, var: relax.Var) -> bool:
        """Tell whether a rounding, a comparison or a quantizer reads what an elementwise chain makes of `var`."""
        seen, waiting = set(), [var]
        while waiting:
            for user in self.graph.users(waiting.pop()):
                call = self.graph.value(user)
                if op_name(call) in _ROUNDS or not dtype_of(user).startswith("float"):
                    return True
                if op_name(call) in ELEMENTWISE and user not in seen:
                    seen.add(user)
                    waiting.append(user)
        return False

    def _narrowed(self, wide: relax.Var, builder: Builder) -> relax.Expr:
        """Return the chain that makes `wide` of integers, in float32."""
        call = builder.values[wide]
        if op_name(call) == "relax.astype":
            return op.astype(call.args[0], "float32")
        args = [const(constant(a), "float32") if constant(a) is not None else builder.emit(self._narrowed(a, builder), f"{a.name}_f32") for a in call.args]
        return relax.Call(call.op, args, call.attrs)


def narrow_doubles(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Bring scaled sums to float32 where no rounding follows, or the target has no vectors of doubles."""
    return _Narrow(mod, ctx).run()
