"""Layout rules of operators that name axes: reshapes and transposes change the layout alone, the others are told where an axis is stored now."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby

import numpy as np
from tvm import relax
from tvm.ir import Tuple

from bnncc.ops.registry import static_shape
from bnncc.passes.layout import Layout
from bnncc.passes.layout_rule import bound, ints
from bnncc.passes.layout_values import Value
from bnncc.passes.rewrite import const, op_name

__all__ = ["AXIS_RULES"]

_FEW = 8
"""Terms at most that a reduction inside an axis is written out in."""


def _renamed(change: Callable) -> Callable:
    """Rule of an operator that only renames axes: `change` gives the layout of the result over the same memory, or None."""

    def rule(run, var, call):
        x = run.value(call.args[0])
        layout = change(x.layout, call, static_shape(var))
        if layout is None or x.array is not None:
            return None
        return run.mover.regroup(Value(x.expr, layout, var.name))

    return rule


def _permuted(layout, call, shape):
    axes = call.attrs.axes
    return layout.permuted(tuple(reversed(range(len(shape)))) if axes is None else tuple(a % len(shape) for a in ints(axes)))


def _reduce(run, var, call):
    """Reduce in the order that is stored; an axis of which only a part goes is split by a reshape first."""
    x, a = run.value(call.args[0]), call.attrs
    rank = len(x.layout.logical)
    axes = set(range(rank)) if a.axis is None else {v % rank for v in ints(a.axis)}
    build = getattr(relax.op, op_name(call).rpartition(".")[2])
    perm = x.layout.perm()
    if perm is not None:
        stored = [i for i, p in enumerate(perm) if p in axes]
        kept = [p for p in perm if a.keepdims or p not in axes]
        layout = Layout.plain(static_shape(var)).ordered(tuple(sorted(kept).index(p) for p in kept))
        return bound(run, var, build(x.expr, stored, bool(a.keepdims)), layout)
    sizes = x.layout.sizes
    gone = {atom for axis in axes for atom in x.layout.axes()[axis]}
    layout = x.layout.without(gone)
    if not a.keepdims:
        layout = Layout(tuple(axis for i, axis in enumerate(layout.logical) if i not in axes), layout.stored)
    group, count = x.layout.stored[-1], math.prod(sizes[atom] for atom in gone)
    if op_name(call) in ("relax.mean", "relax.sum") and gone < set(group) and count <= _FEW:
        return run.mover.regroup(bound(run, var, _sum_of_parts(run, x, group, gone, op_name(call) == "relax.mean"), layout))
    runs = [list(r) for group in x.layout.stored for _, r in groupby(group, key=gone.__contains__)]
    parts = run.builder.emit(relax.op.reshape(x.expr, [math.prod(sizes[atom] for atom in r) for r in runs]), x.name)
    result = run.builder.emit(build(parts, [i for i, r in enumerate(runs) if r[0] in gone], False), var.name)
    return run.mover.regroup(bound(run, var, relax.op.reshape(result, layout.stored_shape), layout))


def _sum_of_parts(run, x: Value, group: tuple[int, ...], gone: set[int], mean: bool):
    """Sum up selections of the innermost stored axis, of whose atoms a few are reduced: slices of a sign side by side become terms of a sum, each of codes
    still."""
    sizes, count = x.layout.sizes, math.prod(x.layout.sizes[atom] for atom in gone)
    order = sorted(range(len(group)), key=lambda i: group[i] not in gone)
    positions = np.arange(math.prod(sizes[a] for a in group)).reshape([sizes[a] for a in group]).transpose(order).reshape(count, -1)
    last = len(x.layout.stored) - 1
    total, *terms = [run.builder.emit(relax.op.take(x.expr, const(p.astype(np.int32)), last, "clip"), x.name) for p in positions]
    for term in terms[:-1] if not mean else terms:
        total = run.builder.emit(relax.op.add(total, term), x.name)
    return relax.op.divide(total, const(np.float32(count))) if mean else relax.op.add(total, terms[-1])


def _concat(run, var, call):
    if not isinstance(call.args[0], Tuple):
        return None
    parts = [run.value(f) for f in call.args[0].fields]
    leader = next((p for p in parts if p.array is None), None)
    if leader is None:
        return None
    shape = static_shape(var)
    axis = int(call.attrs.axis) % len(shape)
    perm = leader.layout.perm()
    if perm is None and len(shape) > 4:
        # values of images: the new axis becomes the outermost part of the innermost stored one
        base = leader.layout.without(set(leader.layout.axes()[axis]))
        moved = [run.mover.convert(p, base.with_outer(axis, p.layout.shape[axis])).expr for p in parts]
        return bound(run, var, relax.op.concat(moved, len(base.stored) - 1), base.with_outer(axis, shape[axis]))
    perm = perm or run.mover.whole(leader).layout.perm()
    moved = [run.mover.convert(p, p.layout.ordered(perm)).expr for p in parts]
    return bound(run, var, relax.op.concat(moved, perm.index(axis)), Layout.plain(shape).ordered(perm))


def _along(run, var, x: Value, build: Callable) -> Value:
    """Bind an operator that keeps the axes; `build` gets the expression and the stored axis of each logical one."""
    x = run.mover.whole(x)
    perm = x.layout.perm()
    return bound(run, var, build(x.expr, [perm.index(i) for i in range(len(perm))]), Layout.plain(static_shape(var)).ordered(perm))


def _strided_slice(run, var, call):
    axes, begin, end, *strides = (ints(t.fields) for t in call.args[1:])
    x = run.value(call.args[0])
    rank = len(x.layout.logical)
    axes = [a % rank for a in axes]
    steps = strides[0] if strides else [1] * len(axes)
    cut = {a: np.arange(x.layout.shape[a])[_python_slice(lo, hi, s, x.layout.shape[a])] for a, lo, hi, s in zip(axes, begin, end, steps)}
    inside = _select(run, var, x, cut)
    if inside is not None:
        return inside
    return _along(run, var, x, lambda e, stored: relax.op.strided_slice(e, [stored[a] for a in axes], begin, end, *strides))


def _python_slice(begin: int, end: int, step: int, size: int) -> slice:
    """Return the slice of Python that means the same; an end before the first element is spelled None."""
    begin, end = (v + size if v < 0 else v for v in (begin, end))
    if step > 0:
        return slice(max(begin, 0), max(end, 0), step)
    return slice(min(begin, size - 1), end if end >= 0 else None, step)


def _select(run, var, x: Value, chosen: dict[int, np.ndarray]) -> Value | None:
    """Select positions of an axis that is stored as a part of another; None where no axis is."""
    if x.layout.perm() is not None or x.array is not None:
        return None
    chosen = {axis: index for axis, index in chosen.items() if len(index) != x.layout.shape[axis] or (np.diff(index) != 1).any()}
    if len(chosen) != 1:
        return None
    ((axis, index),) = chosen.items()
    atoms, sizes = x.layout.axes()[axis], x.layout.sizes
    at = next(i for i, group in enumerate(x.layout.stored) if atoms[0] in group)
    group = x.layout.stored[at]
    if any(a not in group for a in atoms):
        return None
    # an axis of several atoms, shuffled channels for instance, becomes one, and the group takes its logical order
    order = group if len(atoms) == 1 else tuple(sorted(group))
    place = order.index(atoms[0])
    positions = np.arange(math.prod(sizes[a] for a in group)).reshape([sizes[a] for a in group]).transpose([group.index(a) for a in order])
    positions = positions.reshape(*positions.shape[:place], -1, *positions.shape[place + len(atoms) :]).take(index, place).reshape(-1)
    number = {a: a if a < atoms[0] else max(atoms[0], a - len(atoms) + 1) for a in range(len(sizes))}
    stored = tuple(tuple(dict.fromkeys(number[a] for a in (order if i == at else g))) for i, g in enumerate(x.layout.stored))
    layout = Layout((*x.layout.logical[:axis], (len(index),), *x.layout.logical[axis + 1 :]), stored)
    if len(index) == 1:
        layout = layout.without({atoms[0]})
    if (np.diff(positions) == 1).all():
        lo = int(positions[0])
        call = relax.op.strided_slice(x.expr, [at], [lo], [lo + len(positions)], [1])
    else:
        call = relax.op.take(x.expr, const(positions.astype(np.int32)), at, "clip")
    return run.mover.regroup(bound(run, var, call, layout.simplified()))


def _split(run, var, call):
    """Slices take the place of a split; each is bound where the tuple is taken apart."""
    x = run.value(call.args[0])
    axis = int(call.attrs.axis) % len(x.layout.logical)
    size = x.layout.shape[axis]
    where = call.attrs.indices_or_sections
    cuts = ints(where) if hasattr(where, "__len__") else [size // int(where) * i for i in range(1, int(where))]

    def part(lo, hi):
        def bind(item):
            inside = _select(run, item, x, {axis: np.arange(lo, hi)})
            return inside or _along(run, item, x, lambda e, stored: relax.op.strided_slice(e, [stored[axis]], [lo], [hi], [1]))

        return bind

    return [part(lo, hi) for lo, hi in zip([0, *cuts], [*cuts, size])]


def _pad(run, var, call):
    a = call.attrs
    width = np.asarray(ints(a.pad_width)).reshape(-1, 2)

    def build(x, stored):
        order = np.argsort(stored)
        return relax.op.nn.pad(x, width[order].reshape(-1).tolist(), a.pad_mode, float(a.pad_value))

    x = run.mover.whole(run.value(call.args[0]))
    shape = x.layout.shape
    if len(shape) == 4 and not width[:2].any() and (shape[1] == 1 or shape[2] == shape[3] == 1):
        # one pixel, or one channel: NCHW and NHWC are the same memory now, but not with the pad around it
        perm = (0, 2, 3, 1)
        x = run.mover.convert(x, x.layout.ordered(perm))
        return bound(run, var, build(x.expr, [perm.index(i) for i in range(4)]), Layout.plain(static_shape(var)).ordered(perm))
    return _along(run, var, x, build)


def _softmax(build: Callable) -> Callable:
    def rule(run, var, call):
        axis = int(call.attrs.axis) % len(static_shape(var))
        return _along(run, var, run.value(call.args[0]), lambda x, stored: build(x, stored[axis]))

    return rule


def _take(run, var, call):
    x, index = run.value(call.args[0]), run.value(call.args[1])
    if index.array is None or index.array.ndim > 1 or call.attrs.axis is None or x.array is not None:
        return None
    rank = len(x.layout.logical)
    axis = int(call.attrs.axis) % rank
    x = run.mover.whole(x)
    perm = x.layout.perm()
    kept = [p for p in perm if index.array.ndim or p != axis]
    layout = Layout.plain(static_shape(var)).ordered(tuple(sorted(kept).index(p) for p in kept))
    return bound(run, var, relax.op.take(x.expr, index.expr, perm.index(axis), call.attrs.mode), layout)


def _matmul(run, var, call):
    """Multiply by constant weights in whatever order the features are stored; the rows of the weights follow them.

    Of a stack of matrices (tokens of sequences, say) all rows are stored as those of one, and stay so for what follows: a dense layer has two axes.
    """
    x, w = run.value(call.args[0]), run.value(call.args[1])
    if w.array is None or w.array.ndim != 2 or x.array is not None or len(x.layout.logical) < 2:
        return None
    features = x.layout.axes()[-1]
    order = tuple(a for a in x.layout.order if a in features)
    target = Layout(x.layout.logical, (_rows(x.layout), order))
    rows = x.layout.gather_index(features, order)
    product = relax.op.matmul(run.mover.spread(x, target), const(w.array[rows]), out_dtype=call.attrs.out_dtype)
    made = Layout.plain(static_shape(var))
    return bound(run, var, product, Layout(made.logical, (_rows(made), made.axes()[-1])).simplified())


def _rows(layout: Layout) -> tuple[int, ...]:
    """Return the atoms of all axes but the last."""
    return tuple(a for axis in layout.axes()[:-1] for a in axis)


_RESHAPE = _renamed(lambda layout, call, shape: layout.reshaped(shape))
AXIS_RULES: dict[str, Callable] = {
    **{f"relax.{name}": _reduce for name in ("max", "mean", "min", "prod", "std", "sum", "variance")},
    **{f"relax.{name}": _RESHAPE for name in ("expand_dims", "flatten", "nn.batch_flatten", "reshape", "squeeze")},
    "relax.concat": _concat,
    "relax.matmul": _matmul,
    "relax.nn.log_softmax": _softmax(relax.op.nn.log_softmax),
    "relax.nn.pad": _pad,
    "relax.nn.softmax": _softmax(relax.op.nn.softmax),
    "relax.permute_dims": _renamed(_permuted),
    "relax.split": _split,
    "relax.strided_slice": _strided_slice,
    "relax.take": _take,
}
