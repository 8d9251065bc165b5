"""Layout rules of convolutions, pools and resizes: NHWC in, NHWC out."""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax

from bnncc.ops.interpreter import is_elementwise
from bnncc.ops.registry import static_shape
from bnncc.passes.layout import Layout
from bnncc.passes.layout_rule import bound, ints
from bnncc.passes.rewrite import Graph, op_name

__all__ = ["IMAGE_RULES", "wants_nhwc"]


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
        return bound(run, var, build(_nhwc(run, call.args[0], source), call), _image_layout(var, target))

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
        ints(a.strides),
        ints(a.padding),
        ints(a.dilation),
        int(a.groups),
        data_layout="NHWC",
        kernel_layout="HWIO",
        out_dtype=a.out_dtype,
    )
    return bound(run, var, new, _image_layout(var, a.out_layout or a.data_layout))


def _pool(build: Callable) -> Callable:
    def new(x, call):
        a = call.attrs
        return build(
            x, ints(a.pool_size), ints(a.strides), ints(a.padding), ints(a.dilation), bool(a.ceil_mode), bool(a.count_include_pad), layout="NHWC"
        )

    return _image_op(lambda a: (a.layout, a.out_layout or a.layout), new)


def _adaptive(x, call):
    size = call.attrs.output_size
    return relax.op.nn.adaptive_avg_pool2d(x, None if size is None else ints(size), layout="NHWC")


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


IMAGE_RULES: dict[str, Callable] = {
    "relax.image.resize2d": _image_op(lambda a: (a.layout, a.layout), _resize),
    "relax.nn.adaptive_avg_pool2d": _image_op(lambda a: (a.layout, a.out_layout or a.layout), _adaptive),
    "relax.nn.avg_pool2d": _pool(relax.op.nn.avg_pool2d),
    "relax.nn.conv2d": _conv2d,
    "relax.nn.max_pool2d": _pool(relax.op.nn.max_pool2d),
}

_RENAMES = {"relax.reshape", "relax.expand_dims", "relax.squeeze"}
_THROUGH = {"relax.nn.pad", "relax.strided_slice", "relax.concat", "relax.take", "relax.broadcast_to"}


def wants_nhwc(graph: Graph, param: relax.Var) -> bool:
    """Tell whether a parameter is an NCHW image: whether an image operator reads it as one, with no transpose in between."""
    if len(static_shape(param)) != 4:
        return False
    seen, todo = {param}, [param]
    while todo:
        value = todo.pop()
        for user in graph.users(value):
            call = graph.value(user)
            name = op_name(call)
            if name in IMAGE_RULES and not call.args[0].same_as(value):
                continue  # computed weights
            if name in IMAGE_RULES:
                return (call.attrs.data_layout if name == "relax.nn.conv2d" else call.attrs.layout) == "NCHW"
            passes = name is not None and (name in _THROUGH or name in _RENAMES or is_elementwise(name))
            if user not in seen and passes and isinstance(user.ty, relax.TensorType) and len(static_shape(user)) >= 4:
                seen.add(user)
                todo.append(user)
    return False
