"""FoldSlices: quantizers of one tensor side by side become one quantizer of the channels repeated, so that one kernel writes all their bits in the words they
are read from.

A multi-slice sign is k quantizers of an accumulator (FoldTake, FoldPool) whose codes are appended to each other, or interleaved. The accumulator is repeated
where it is read, by the epilogue that compares it with k times the thresholds::

    q0 = bnn.quantize(x, t0, f0)                    r = bnn.repeat_channels(x, each=1, times=2)
    q1 = bnn.quantize(x, t1, f1)            ->      c = bnn.quantize(r, concat(t0, t1), concat(f0, f1))
    c = concat((q0, q1), axis=3)

Pools of the parts become one pool. Codes made twice in the same way, a shortcut's and a convolution's, are made once.
"""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.ops.repeat_channels import repeated
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, const, constant, op_name

__all__ = ["fold_slices"]


class _FoldSlices(Rewriter):
    def __init__(self, mod):
        super().__init__(mod)
        self.made: dict[int, list[tuple[relax.Expr, relax.Var]]] = {}

    def rewrite(self, var, value, builder: Builder):
        if not isinstance(var.ty, relax.TensorType) or dtype_of(var) != "int8":
            return None
        self.builder = builder
        folded = self._concat(value) if op_name(value) == "relax.concat" else self._take(value) if op_name(value) == "relax.take" else None
        return self._once(value if folded is None else folded, var.name, builder.bind)

    def _once(self, call, name: str, bind):
        """Return the variable that holds the result of `call`, bound now where nothing before is made in the same way."""
        call = self.builder.typed(call)  # a call of no type yet equals none that is bound
        key = tvm_ffi.structural_hash(call)
        for other, known in self.made.get(key, []):
            if tvm_ffi.structural_equal(call, other):
                return known
        bound = bind(call, name)
        self.made.setdefault(key, []).append((call, bound))
        return bound

    def _concat(self, value):
        """Append codes of one maker to each other by making them together; None where they are not."""
        fields = list(value.args[0].fields)
        makers = [self.builder.values.get(f) if isinstance(f, relax.Var) else None for f in fields]
        if int(value.attrs.axis) % len(static_shape(fields[0])) != len(static_shape(fields[0])) - 1 or len(fields) < 2:
            return None
        first = makers[0]
        if any(not isinstance(m, relax.Call) or m.op != first.op or not tvm_ffi.structural_equal(m.attrs, first.attrs) for m in makers):
            return None
        if is_bnn(first, "max_pool2d"):
            inner = self._concat(op.concat([m.args[0] for m in makers], axis=value.attrs.axis))
            if inner is None:
                return None
            flips = [np.broadcast_to(constant(m.args[1]), static_shape(m)[-1:]) for m in makers]
            return relax.Call(first.op, [self._once(inner, f"{fields[0].name}_joined", self.builder.emit), const(np.concatenate(flips))], first.attrs)
        if not is_bnn(first, "quantize") or not all(m.args[0].same_as(first.args[0]) for m in makers):
            return None
        x, channels = first.args[0], static_shape(first.args[0])[-1]
        parts = [_by_channel(m, channels) for m in makers]
        if any(p is None for p in parts):
            return None
        thresholds, flip = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
        return self._quantize(first, x, 1, len(makers), thresholds, flip)

    def _quantize(self, like, x, each: int, times: int, thresholds, flip):
        repeats = self._once(bnn.repeat_channels(x, each=each, times=times), f"{x.name}_repeated", self.builder.emit)
        return relax.Call(like.op, [repeats, const(thresholds), const(flip)], like.attrs)

    def _take(self, value):
        """Select channels of codes by making others; None where what is left is no repetition of all channels."""
        x, index = value.args[0], constant(value.args[1])
        maker = self.builder.values.get(x) if isinstance(x, relax.Var) else None
        last = len(static_shape(x)) - 1
        if index is None or index.ndim != 1 or value.attrs.axis is None or int(value.attrs.axis) % (last + 1) != last or maker is None:
            return None
        if is_bnn(maker, "max_pool2d"):
            inner = self._take(op.take(maker.args[0], value.args[1], axis=last, mode="clip"))
            if inner is None:
                return None
            flip = np.broadcast_to(constant(maker.args[1]), static_shape(x)[-1:])[index]
            return relax.Call(maker.op, [self._once(inner, f"{x.name}_selected", self.builder.emit), const(flip)], maker.attrs)
        repeats = self.builder.values.get(maker.args[0]) if is_bnn(maker, "quantize") and isinstance(maker.args[0], relax.Var) else None
        if not is_bnn(repeats, "repeat_channels"):
            return None
        source, attrs = repeats.args[0], repeats.attrs
        channels = static_shape(source)[-1]
        found = repeated(index // int(attrs.each) % channels, channels)
        if found is None:
            return None
        thresholds, flip = (a[..., index] for a in _by_channel(maker, static_shape(x)[-1]))
        return self._quantize(maker, source, *found, thresholds, flip)


def _by_channel(quantize, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return thresholds (n, channels) and flip (channels,) of a quantizer, None where its thresholds differ from place to place."""
    thresholds, flip = constant(quantize.args[1]), constant(quantize.args[2])
    count = len(thresholds)
    if thresholds.size not in (count, count * channels) or flip.size not in (1, channels):
        return None
    return np.broadcast_to(thresholds.reshape(count, -1), (count, channels)), np.broadcast_to(flip.reshape(-1), (channels,))


def fold_slices(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Make codes of one tensor that stand side by side together, and equal ones once."""
    return _FoldSlices(mod).run()
