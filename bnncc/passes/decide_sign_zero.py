"""DecideSignZero: what becomes of a plain Sign's 0 where it reaches a binary layer, as the user asked.

ONNX ``Sign(0)`` is 0, which one bit cannot hold. ``exact`` keeps it (packing makes two planes of it); ``plus`` and ``minus`` drop one of the two thresholds,
and the code is two-valued::

    c = bnn.quantize(x, [t0, t1], flip, lo=-1, step=1)     ->     c = bnn.quantize(x, [t0], flip, lo=-1, step=2)
"""

from __future__ import annotations

import tvm
from tvm import relax

from bnncc.ops import bnn, is_bnn, static_shape
from bnncc.passes.code_range import code_range, runs_on_bits
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant, used_vars

__all__ = ["decide_sign_zero"]


class _Decide(ContextRewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod, ctx)
        self.read_as_bits = _read_as_bits(self.graph)

    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "quantize") or not value.attrs.sign or var not in self.read_as_bits:
            return None
        named = next((v for v in (var, *self.graph.users(var)) if v.name in self.ctx.tensors), var)  # behind a pool, if not itself
        self.ctx.sign_zeros[self.ctx.onnx_name(named.name)] = static_shape(var)[-1]
        if self.ctx.options.sign_zero == "exact":
            return None
        keep = 0 if self.ctx.options.sign_zero == "plus" else 1
        return bnn.quantize(value.args[0], const(constant(value.args[1])[keep : keep + 1]), value.args[2], -1, 2)


def _read_as_bits(graph) -> set[relax.Var]:
    """Return the code tensors that reach a binary layer through data movement, pools and pads."""
    found: set[relax.Var] = set()
    for b in reversed(graph.bindings):
        if (is_bnn(b.value, "conv2d") or is_bnn(b.value, "dense")) and runs_on_bits(b.value, code_range(b.value.args[0], graph.value)):
            found.add(b.value.args[0])
        elif b.var in found and not is_bnn(b.value, "quantize"):
            found.update(used_vars(b.value))
    return found


def decide_sign_zero(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Apply ``--sign-zero`` to the signs that binary layers read, and note for the report which those are."""
    return _Decide(mod, ctx).run()
