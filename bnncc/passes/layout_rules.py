"""How each operator goes from the ONNX layout into the layout its operands have: the rules of `canonicalize_layout`.

A rule takes the run's state, the old variable and the old call, and returns the new value, or None where the operator keeps its ONNX layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from bnncc.ops.interpreter import is_elementwise
from bnncc.ops.numpy_elementwise import ELEMENTWISE
from bnncc.ops.registry import static_shape
from bnncc.passes.layout import Layout
from bnncc.passes.layout_values import Value, standard
from bnncc.passes.rewrite import Graph, const, op_name

__all__ = ["RULES", "wants_nhwc"]


def _ints(values) -> list[int]:
    return [int(v) for v in values]


def _is_tensor(expr) -> bool:
    return isinstance(expr, relax.Var | GenericConst) and isinstance(expr.ty, relax.TensorType)


def _done(run, var, call, layout) -> Value:
    return Value(run.bind(call, var.name, layout), layout, var.name)


# --- images ---------------------------------------------------------------------------------------------------------------------------------


def _nhwc(run, expr, letters: str):
    """Return the value with its axes, named by `letters`, stored in the order N, H, W, C."""
    value = run.value(expr)
    return run.mover.convert(value, value.layout.ordered(tuple(letters.index(a) for a in "NHWC"))).expr


def _image_layout(var, letters: str) -> Layout:
    return Layout.plain(static_shape(var)).ordered(tuple(letters.index(a) for a in "NHWC"))


def _image_op(letters_of: Callable, build: Callable) -> Callable:
    def rule(run, var, call):
        source, target = letters_of(call.attrs)
        if sorted(source) != sorted("NCHW"):
            return None
        return _done(run, var, build(_nhwc(run, call.args[0], source), call), _image_layout(var, target))

    return rule


def _conv2d(run, var, call):
    a = call.attrs
    if sorted(a.data_layout) != sorted("NCHW") or sorted(a.kernel_layout) != sorted("OIHW"):
        return None
    weight = run.value(call.args[1])
    order = tuple(a.kernel_layout.index(letter) for letter in "HWIO")
    kernel = run.mover.convert(weight, weight.layout.ordered(order)).expr
    new = relax.op.nn.conv2d(
        _nhwc(run, call.args[0], a.data_layout),
        kernel,
        _ints(a.strides),
        _ints(a.padding),
        _ints(a.dilation),
        int(a.groups),
        data_layout="NHWC",
        kernel_layout="HWIO",
        out_dtype=a.out_dtype,
    )
    return _done(run, var, new, _image_layout(var, a.out_layout or a.data_layout))


def _pool(build: Callable) -> Callable:
    def new(x, call):
        a = call.attrs
        return build(
            x, _ints(a.pool_size), _ints(a.strides), _ints(a.padding), _ints(a.dilation), bool(a.ceil_mode), bool(a.count_include_pad), layout="NHWC"
        )

    return _image_op(lambda a: (a.layout, a.out_layout or a.layout), new)


def _adaptive(x, call):
    size = call.attrs.output_size
    return relax.op.nn.adaptive_avg_pool2d(x, None if size is None else _ints(size), layout="NHWC")


def _resize(x, call):
    a = call.attrs
    return relax.op.image.resize2d(
        x,
        call.args[1],
        roi=[float(v) for v in a.roi],
        layout="NHWC",
        method=a.method,
        coordinate_transformation_mode=a.coordinate_transformation_mode,
        rounding_method=a.rounding_method,
        cubic_alpha=a.cubic_alpha,
        cubic_exclude=a.cubic_exclude,
        extrapolation_value=a.extrapolation_value,
        out_dtype=a.out_dtype,
    )


# --- elementwise ----------------------------------------------------------------------------------------------------------------------------


def _elementwise(run, var, call):
    operands = {i: run.value(a) for i, a in enumerate(call.args) if _is_tensor(a)}
    if op_name(call) == "relax.nn.prelu":
        return _prelu(run, var, call)
    layout = _join(run, list(operands.values()), static_shape(var))
    arguments = [run.mover.spread(operands[i], layout, trim=True) if i in operands else a for i, a in enumerate(call.args)]
    if all(isinstance(a, GenericConst) for i, a in enumerate(arguments) if i in operands):
        return None
    return _done(run, var, relax.Call(call.op, arguments, call.attrs, call.ty_args), layout)


def _prelu(run, var, call):
    x = run.value(call.args[0])
    slope = run.value(call.args[1])
    if slope.array is None:
        return None
    axis = int(call.attrs.axis) % len(x.layout.logical)
    if slope.array.size == 1:
        return _done(run, var, relax.op.nn.prelu(x.expr, const(slope.array.reshape(1)), len(x.layout.stored) - 1), x.layout)
    x = run.mover.whole(x)
    stored_axis = x.layout.perm().index(axis)
    return _done(run, var, relax.op.nn.prelu(x.expr, slope.expr, stored_axis), x.layout)


def _join(run, operands: list[Value], shape: tuple[int, ...]) -> Layout:
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
    layout = _join(run, [x], static_shape(var))
    return _done(run, var, relax.op.broadcast_to(run.mover.spread(x, layout), layout.stored_shape), layout)


# --- axes by name ---------------------------------------------------------------------------------------------------------------------------


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
    return layout.permuted(tuple(reversed(range(len(shape)))) if axes is None else tuple(a % len(shape) for a in _ints(axes)))


def _reduce(run, var, call):
    x = run.mover.whole(run.value(call.args[0]))
    perm, a = x.layout.perm(), call.attrs
    axes = set(range(len(perm))) if a.axis is None else {v % len(perm) for v in _ints(a.axis)}
    stored = [i for i, p in enumerate(perm) if p in axes]
    build = getattr(relax.op, op_name(call).rpartition(".")[2])
    kept = [p for p in perm if a.keepdims or p not in axes]
    renumber = {p: i for i, p in enumerate(sorted(kept))}
    layout = Layout.plain(static_shape(var)).ordered(tuple(renumber[p] for p in kept))
    return _done(run, var, build(x.expr, stored, bool(a.keepdims)), layout)


def _concat(run, var, call):
    parts = [run.value(f) for f in call.args[0].fields] if isinstance(call.args[0].fields[0], relax.Expr) else []
    leader = next((p for p in parts if p.array is None), None)
    if leader is None:
        return None
    perm = run.mover.whole(leader).layout.perm()
    axis = int(call.attrs.axis) % len(perm)
    moved = [run.mover.convert(p, p.layout.ordered(perm)).expr for p in parts]
    return _done(run, var, relax.op.concat(moved, perm.index(axis)), Layout.plain(static_shape(var)).ordered(perm))


def _along(run, var, x: Value, build: Callable) -> Value:
    """Bind an operator that keeps the axes; `build` gets the expression and the stored axis of each logical one."""
    x = run.mover.whole(x)
    perm = x.layout.perm()
    return _done(run, var, build(x.expr, [perm.index(i) for i in range(len(perm))]), Layout.plain(static_shape(var)).ordered(perm))


def _strided_slice(run, var, call):
    axes, begin, end, *strides = (_ints(t.fields) for t in call.args[1:])
    rank = len(static_shape(call.args[0]))
    return _along(
        run,
        var,
        run.value(call.args[0]),
        lambda x, stored: relax.op.strided_slice(x, [stored[a % rank] for a in axes], begin, end, *strides),
    )


def _split(run, var, call):
    x = run.value(call.args[0])
    shape = static_shape(call.args[0])
    axis = int(call.attrs.axis) % len(shape)
    where = call.attrs.indices_or_sections
    cuts = _ints(where) if hasattr(where, "__len__") else [shape[axis] // int(where) * i for i in range(1, int(where))]

    def part(lo, hi):
        return lambda item: _along(run, item, x, lambda e, stored: relax.op.strided_slice(e, [stored[axis]], [lo], [hi], [1]))

    return [part(lo, hi) for lo, hi in zip([0, *cuts], [*cuts, shape[axis]])]


def _pad(run, var, call):
    a = call.attrs
    width = np.asarray(_ints(a.pad_width)).reshape(-1, 2)

    def build(x, stored):
        order = np.argsort(stored)
        return relax.op.nn.pad(x, width[order].reshape(-1).tolist(), a.pad_mode, float(a.pad_value))

    return _along(run, var, run.value(call.args[0]), build)


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
    return _done(run, var, relax.op.take(x.expr, index.expr, perm.index(axis), call.attrs.mode), layout)


# --- dense ----------------------------------------------------------------------------------------------------------------------------------


def _matmul(run, var, call):
    """Multiply by constant weights in whatever order the features are stored; the rows of the weights follow them."""
    x, w = run.value(call.args[0]), run.value(call.args[1])
    if w.array is None or w.array.ndim != 2 or x.array is not None or len(x.layout.logical) < 2:
        return None
    features = x.layout.axes()[-1]
    order = tuple(a for a in x.layout.order if a in features)
    others = tuple(g for g in x.layout.axes()[:-1])
    target = Layout(x.layout.logical, (*others, order))
    rows = x.layout.gather_index(features, order)
    product = relax.op.matmul(run.mover.spread(x, target), const(w.array[rows]), out_dtype=call.attrs.out_dtype)
    return _done(run, var, product, Layout.plain(static_shape(var)))


RULES: dict[str, Callable] = {
    **{name: _elementwise for name in ELEMENTWISE},
    **{f"relax.{name}": _reduce for name in ("max", "mean", "min", "prod", "std", "sum", "variance")},
    "relax.broadcast_to": _broadcast_to,
    "relax.concat": _concat,
    "relax.expand_dims": _renamed(lambda layout, call, shape: layout.reshaped(shape)),
    "relax.flatten": _renamed(lambda layout, call, shape: layout.reshaped(shape)),
    "relax.image.resize2d": _image_op(lambda a: (a.layout, a.layout), _resize),
    "relax.matmul": _matmul,
    "relax.nn.adaptive_avg_pool2d": _image_op(lambda a: (a.layout, a.out_layout or a.layout), _adaptive),
    "relax.nn.avg_pool2d": _pool(relax.op.nn.avg_pool2d),
    "relax.nn.batch_flatten": _renamed(lambda layout, call, shape: layout.reshaped(shape)),
    "relax.nn.conv2d": _conv2d,
    "relax.nn.log_softmax": _softmax(relax.op.nn.log_softmax),
    "relax.nn.max_pool2d": _pool(relax.op.nn.max_pool2d),
    "relax.nn.pad": _pad,
    "relax.nn.softmax": _softmax(relax.op.nn.softmax),
    "relax.permute_dims": _renamed(_permuted),
    "relax.reshape": _renamed(lambda layout, call, shape: layout.reshaped(shape)),
    "relax.split": _split,
    "relax.squeeze": _renamed(lambda layout, call, shape: layout.reshaped(shape)),
    "relax.strided_slice": _strided_slice,
    "relax.take": _take,
}

_IMAGE = {"relax.nn.conv2d", "relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d", "relax.image.resize2d"}
_THROUGH = {"relax.nn.pad", "relax.strided_slice", "relax.concat"}


def wants_nhwc(graph: Graph, param: relax.Var) -> bool:
    """Tell whether a parameter is an NCHW image: whether an image operator reads it through operators that keep its axes."""
    if len(static_shape(param)) != 4:
        return False
    seen, todo = {param}, [param]
    while todo:
        for user in graph.users(todo.pop()):
            call = graph.value(user)
            name = op_name(call)
            if name in _IMAGE:
                return (call.attrs.data_layout if name == "relax.nn.conv2d" else call.attrs.layout) == "NCHW"
            if user not in seen and (name in _THROUGH or (name is not None and is_elementwise(name))) and len(static_shape(user)) == 4:
                seen.add(user)
                todo.append(user)
    return False
