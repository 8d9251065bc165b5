"""FoldConcat: a quantizer of concatenated channels becomes a concatenation of codes, so that each part is quantized where it is made.

Dense networks append a layer's channels to the features, and every later layer has thresholds of its own for all of them. Quantizing the whole anew for each
layer reads the float features as often as there are layers; each part's thresholds fit the epilogue of the convolution that makes it::

    x = concat((a, b), axis=3)                      qa = bnn.quantize(a, thresholds[..., :64], flip[:64])
    q = bnn.quantize(x, thresholds, flip)    ->     qb = bnn.quantize(b, thresholds[..., 64:], flip[64:])
                                                    q = concat((qa, qb), axis=3)

Two more rules keep the parts apart: concatenations of concatenations are one, and a sum with channels that are padded with zeros (MeliusNet's improvement
block) is a sum of the parts that are not: ``add(concat((a, b)), pad(w))`` is ``concat((a, add(b, w)))``.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import is_bnn, static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.quantize_channels import quantize_channels
from bnncc.passes.rewrite import Builder, Rewriter, op_name

__all__ = ["fold_concat"]


def _parts(expr: relax.Expr, builder: Builder) -> list[relax.Var] | None:
    """Return the tensors whose channels `expr` appends to each other, None where it is no such concatenation."""
    value = builder.values.get(expr) if isinstance(expr, relax.Var) else expr
    if op_name(value) != "relax.concat" or not all(isinstance(f, relax.Var) for f in value.args[0].fields):
        return None
    fields = list(value.args[0].fields)
    rank = len(static_shape(fields[0]))
    return fields if int(value.attrs.axis) % rank == rank - 1 else None


def _channels(parts: list[relax.Var]) -> np.ndarray:
    """Return the first channel of each part, and behind the last how many there are."""
    return np.cumsum([0, *(static_shape(p)[-1] for p in parts)])


class _FoldConcat(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if is_bnn(value, "quantize"):
            return self._quantize(var, value, builder)
        if op_name(value) == "relax.concat":
            return self._flat(value, builder)
        if op_name(value) == "relax.add":
            a, b = value.args
            made = self._sum(var, a, b, builder)
            return self._sum(var, b, a, builder) if made is None else made
        return None

    def _quantize(self, var, value, builder):
        parts = _parts(value.args[0], builder)
        if parts is None:
            return None
        bounds = _channels(parts)
        codes = []
        for part, first, end in zip(parts, bounds, bounds[1:]):
            codes.append(builder.emit(quantize_channels(value, part, slice(first, end)), f"{var.name}_part"))
        return op.concat(codes, axis=len(static_shape(var)) - 1)

    def _flat(self, value, builder):
        parts = _parts(value, builder)
        inner = [_parts(p, builder) for p in parts or ()]
        if not any(inner):
            return None
        fields = [v for part, own in zip(parts, inner) for v in (own or [part])]
        return op.concat(fields, axis=int(value.attrs.axis))

    def _sum(self, var, whole, padded, builder):
        parts = _parts(whole, builder) if isinstance(whole, relax.Var) else None
        pad = builder.values.get(padded) if isinstance(padded, relax.Var) else None
        if parts is None or op_name(pad) != "relax.nn.pad" or pad.attrs.pad_mode != "constant" or float(pad.attrs.pad_value) != 0:
            return None
        width = [int(w) for w in pad.attrs.pad_width]
        bounds = _channels(parts).tolist()
        first, end = width[-2], bounds[-1] - width[-1]
        if any(width[:-2]) or static_shape(whole) != static_shape(padded) or first not in bounds or end not in bounds or first >= end:
            return None
        i, j = bounds.index(first), bounds.index(end)
        axis = len(static_shape(var)) - 1
        middle = parts[i] if j == i + 1 else builder.emit(op.concat(parts[i:j], axis=axis), f"{var.name}_reached")
        added = builder.emit(op.add(middle, pad.args[0]), f"{var.name}_part")
        fields = [*parts[:i], added, *parts[j:]]
        return added if len(fields) == 1 else op.concat(fields, axis=axis)


def fold_concat(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Quantize the parts of concatenated channels where they are made."""
    return _FoldConcat(mod).run()
