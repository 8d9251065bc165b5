"""SplitTernary: what a plain Sign leaves at 0 is kept exactly by two bit planes, or decided as the user asked.

A code of -1, 0, +1 is half the sum of two signs: ``p = (x >= 0)`` and ``q = (x > 0)``. A dot product with it is half the dot product of both planes,
side by side as channels, with the weights repeated; the accumulator holds twice the sum, and what reads it accounts for that::

    c = bnn.quantize(x, [t0, t1], flip, lo=-1, step=1)         p = bnn.quantize(x, [t0], flip)
    n = bnn.conv2d(c, signs)                             ->    q = bnn.quantize(x, [t1], flip)
    f = astype(n, "float32")                                   n = bnn.conv2d(concat(p, q), concat(signs, signs))
                                                               f = multiply(astype(n, "float32"), 0.5)

With ``--sign-zero plus`` the code is p alone, with ``minus`` q alone.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Tuple
from tvm.relax import op

from bnncc.ops import bnn, is_bnn, static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, const, constant, op_name, used_vars

__all__ = ["split_ternary"]


class _Split(Rewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod)
        self.ctx = ctx
        self.ternary: set[relax.Var] = set()
        self.planes: dict[tuple[relax.Var, int], relax.Var] = {}
        self.read_as_bits = _read_as_bits(self.graph)
        self.doubled: set[relax.Var] = set()  # accumulators, as rewritten, that hold twice their value

    def rewrite(self, var, value, builder: Builder):
        old = self.graph.value(var)
        if is_bnn(old, "quantize") and old.attrs.step == 1 and var in self.read_as_bits:
            self.ctx.note_sign_zero(self.ctx.onnx_name(var.name), static_shape(var)[-1])
            if self.ctx.options.sign_zero != "exact":
                keep = 0 if self.ctx.options.sign_zero == "plus" else 1
                return bnn.quantize(value.args[0], const(constant(value.args[1])[keep : keep + 1]), value.args[2], -1, 2)
        if self._is_ternary(var, old):
            self.ternary.add(var)
        if (is_bnn(old, "conv2d") or is_bnn(old, "dense")) and old.args[0] in self.ternary:
            return self._layer(var, old, builder)
        if op_name(old) == "relax.astype" and value.args[0] in self.doubled:
            return op.multiply(builder.emit(value, f"{var.name}_twice"), const(np.float32(0.5)))
        if is_bnn(old, "quantize") and value.args[0] in self.doubled:
            return relax.Call(value.op, [value.args[0], const(constant(value.args[1]) * 2), value.args[2]], value.attrs)
        return None

    def _is_ternary(self, var, old) -> bool:
        if is_bnn(old, "quantize"):
            return old.attrs.step == 1
        if str(getattr(var.ty, "dtype", "")) != "int8":
            return False
        zero_pad = is_bnn(old, "pad") and old.attrs.mode == "constant" and old.attrs.code == 0
        return zero_pad or any(v in self.ternary for v in used_vars(old))

    def _layer(self, var, old, builder):
        x, w = old.args
        planes = [self._plane(x, k, builder) for k in (0, 1)]
        both = builder.emit(op.concat(planes, axis=-1), f"{x.name}_planes")
        if is_bnn(old, "conv2d") and old.attrs.groups > 1:
            both = self._by_group(both, old.attrs.groups, builder)
        weight = np.concatenate([constant(w)] * 2, axis=-1)
        acc = builder.bind(builder.typed(relax.Call(old.op, [both, const(weight)], old.attrs)), var.name)
        self.doubled.add(acc)
        return acc

    @staticmethod
    def _by_group(both, groups, builder):
        """Put the planes of each group side by side."""
        channels = static_shape(both)[-1]
        index = np.arange(channels, dtype=np.int64).reshape(2, groups, channels // groups // 2).transpose(1, 0, 2).reshape(-1)
        return builder.emit(op.take(both, const(index), axis=len(static_shape(both)) - 1), "planes_by_group")

    def _plane(self, var, k, builder):
        """Return plane k of a ternary tensor, built from the planes of what it was computed from."""
        if (var, k) in self.planes:
            return self.planes[var, k]
        if var not in self.ternary:
            return self.mapping.get(var, var)
        old = self.graph.value(var)
        hint = f"{var.name}_{'gt' if k else 'ge'}0"
        if is_bnn(old, "quantize"):
            x, thresholds, flip = (self.mapping.get(a, a) if isinstance(a, relax.Var) else a for a in old.args)
            t = constant(thresholds)[k : k + 1]
            plane = bnn.quantize(x, const(t * 2 if x in self.doubled else t), flip, -1, 2)
        elif is_bnn(old, "pad") and old.attrs.mode == "constant":
            code = old.attrs.code or (-1 if k else 1)
            plane = bnn.pad(self._plane(old.args[0], k, builder), old.attrs.padding, "constant", code)
        else:
            plane = relax.Call(old.op, [self._on_plane(a, k, builder) for a in old.args], old.attrs)
        self.planes[var, k] = builder.emit(plane, hint)
        return self.planes[var, k]

    def _on_plane(self, arg, k, builder):
        if isinstance(arg, Tuple):
            return Tuple([self._plane(f, k, builder) for f in arg.fields])
        return self._plane(arg, k, builder) if isinstance(arg, relax.Var) else arg


def _read_as_bits(graph) -> set[relax.Var]:
    """Return the code tensors that reach a binary layer through data movement, pools and pads."""
    found: set[relax.Var] = set()
    for b in reversed(graph.bindings):
        if is_bnn(b.value, "conv2d") or is_bnn(b.value, "dense"):
            found.add(b.value.args[0])
        elif b.var in found and not is_bnn(b.value, "quantize"):
            found.update(used_vars(b.value))
    return found


def split_ternary(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Give every binary layer that reads -1, 0, +1 two-valued planes instead."""
    return _Split(mod, ctx).run()
