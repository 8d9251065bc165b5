"""Layout rules of elementwise operators: the layout of the largest operand, constants transposed at compile time."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import relax
from tvm.ir import GenericConst

from bnncc.ops.numpy_elementwise import ELEMENTWISE
from bnncc.ops.registry import static_shape
from bnncc.passes.layout import Layout
from bnncc.passes.layout_rule import bound
from bnncc.passes.layout_values import Value, standard
from bnncc.passes.rewrite import const

__all__ = ["ELEMENTWISE_RULES"]


def is_tensor(expr: relax.Expr) -> bool:
    """Tell tensors from the scalar literals that operators such as clip take."""
    return isinstance(expr, relax.Var | GenericConst) and isinstance(expr.ty, relax.TensorType)


def _elementwise(run, var, call):
    operands = {i: run.value(a) for i, a in enumerate(call.args) if is_tensor(a)}
    layout = _join(list(operands.values()), static_shape(var))
    arguments = [run.mover.spread(operands[i], layout, trim=True) if i in operands else a for i, a in enumerate(call.args)]
    if all(isinstance(a, GenericConst) for i, a in enumerate(arguments) if i in operands):
        return None
    return bound(run, var, relax.Call(call.op, arguments, call.attrs, call.ty_args), layout)


def _prelu(run, var, call):
    x = run.value(call.args[0])
    slope = run.value(call.args[1])
    if slope.array is None:
        return None
    axis = int(call.attrs.axis) % len(x.layout.logical)
    if slope.array.size == 1:
        return bound(run, var, relax.op.nn.prelu(x.expr, const(slope.array.reshape(1)), len(x.layout.stored) - 1), x.layout)
    x = run.mover.whole(x)
    stored_axis = x.layout.perm().index(axis)
    return bound(run, var, relax.op.nn.prelu(x.expr, slope.expr, stored_axis), x.layout)


def _join(operands: list[Value], shape: tuple[int, ...]) -> Layout:
    """Choose the layout in which an elementwise operator computes: that of its largest operand, with the axes that only others have put in."""
    moving = [o for o in operands if o.array is None] or operands
    base = max(moving, key=lambda o: (math.prod(o.layout.shape), o.layout == standard(o.layout)))
    have = Layout(((),) * (len(shape) - len(base.layout.logical)) + base.layout.logical, base.layout.stored)
    if have.shape == shape:
        return _as_logical(have)
    if base.layout.perm() == tuple(range(len(base.layout.logical))):
        return Layout.plain(shape)
    if len(shape) == 4:
        return standard(Layout.plain(shape))
    # axes that the base lacks, innermost first
    for axis in reversed(range(len(shape))):
        if not have.logical[axis] and shape[axis] > 1:
            have = _with_axis(have, axis, shape[axis])
    return _as_logical(have.simplified())


def _with_axis(have: Layout, axis: int, size: int) -> Layout:
    """Give a logical axis of size 1 an atom, stored beside its neighbour in the innermost stored axis if it has one: slices of a sign become channels."""
    atom = sum(len(a) for a in have.logical[:axis])
    groups = [[a + (a >= atom) for a in g] for g in have.stored]
    innermost = groups[-1] if groups else []
    if atom - 1 in innermost:
        innermost.insert(innermost.index(atom - 1) + 1, atom)
    else:
        group = next((g for g in reversed(groups) if atom + 1 in g), None)
        if group is None:
            groups.append([atom])
        else:
            group.insert(group.index(atom + 1), atom)
    return Layout((*have.logical[:axis], (size,), *have.logical[axis + 1 :]), tuple(tuple(g) for g in groups))


def _as_logical(layout: Layout) -> Layout:
    """Regroup stored axes into one a logical axis where the memory allows that and there are more of them."""
    return (layout.regrouped() if len(layout.stored) > len(layout.logical) else None) or layout


def _broadcast_to(run, var, call):
    x = run.value(call.args[0])
    layout = _join([x], static_shape(var))
    return bound(run, var, relax.op.broadcast_to(run.mover.spread(x, layout), layout.stored_shape), layout)


ELEMENTWISE_RULES: dict[str, Callable] = {
    **{name: _elementwise for name in ELEMENTWISE},
    "relax.broadcast_to": _broadcast_to,
    "relax.nn.prelu": _prelu,
}
