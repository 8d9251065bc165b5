"""Each rule of the layout pass: Before and Expected, and the twin in which it must not fire."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.errors import InternalError
from bnncc.passes.canonicalize_layout import canonicalize_layout
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.rewrite import Graph, constant

from .layout_checks import canonical, operators
from .random_movement import random_movement

RNG = np.random.default_rng(0)


def _whole(*shape):
    return RNG.integers(-3, 4, shape).astype(np.float32)


W = _whole(6, 4, 3, 3)
C = _whole(1, 6, 1, 1)


def _check(before: tvm.IRModule, expected: tvm.IRModule) -> None:
    new, _ = canonical(before)
    tvm.ir.assert_structural_equal(new["main"].without_attr("global_symbol"), expected["main"].without_attr("global_symbol"))


def _module(build, *shapes, dtype="float32"):
    """Return a module that computes ``build(*parameters)``; every operator in it gets a binding of its own."""
    params = [relax.Var(f"x{i}", relax.TensorType(s, dtype)) for i, s in enumerate(shapes)]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(builder.normalize(build(*params)))
        builder.emit_func_output(out)
    return builder.get()


def _conv(x, channels=6, **attributes):
    w = np.random.default_rng(1).integers(-3, 4, (channels, 4, 3, 3)).astype(np.float32)
    return op.nn.conv2d(x, relax.const(w), padding=1, **attributes)


def test_a_convolution_takes_nhwc_and_its_channel_constants_become_vectors():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 4, 5, 5), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(x, R.const(W), padding=[1, 1, 1, 1])
                y = R.add(conv, R.const(C))
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 4, 5, 5), "float32")):
            with R.dataflow():
                image = R.permute_dims(x, [0, 2, 3, 1])
                conv = R.nn.conv2d(image, R.const(W.transpose(2, 3, 1, 0)), padding=[1, 1, 1, 1], data_layout="NHWC", kernel_layout="HWIO")
                y = R.add(conv, R.const(C.reshape(6)))
                out = R.permute_dims(y, [0, 3, 1, 2])
                R.output(out)
            return out

    _check(Before, Expected)


def test_transposes_around_convolutions_of_an_nhwc_model_vanish():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 5, 5, 4), "float32")):
            with R.dataflow():
                scaled = R.multiply(x, R.const(2.0))
                to_nchw = R.permute_dims(scaled, [0, 3, 1, 2])
                conv = R.nn.conv2d(to_nchw, R.const(W))
                y = R.permute_dims(conv, [0, 2, 3, 1])
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 5, 5, 4), "float32")):
            with R.dataflow():
                scaled = R.multiply(x, R.const(2.0))
                y = R.nn.conv2d(scaled, R.const(W.transpose(2, 3, 1, 0)), data_layout="NHWC", kernel_layout="HWIO")
                R.output(y)
            return y

    _check(Before, Expected)


def test_an_input_of_one_channel_is_reshaped_only():
    mod = _module(lambda x: op.nn.max_pool2d(x, [2, 2]), (3, 1, 4, 6))
    assert operators(canonical(mod)[0]) == ["reshape", "nn.max_pool2d", "reshape"]


def test_a_model_without_images_stays_as_it_is():
    @I.ir_module
    class Dense:
        @R.function
        def main(x: R.Tensor((2, 4, 3), "float32")):
            with R.dataflow():
                flat = R.reshape(x, R.shape([2, 12]))
                product = R.matmul(flat, R.const(np.arange(60, dtype=np.float32).reshape(12, 5)))
                y = R.subtract(product, R.const(np.arange(5, dtype=np.float32)))
                R.output(y)
            return y

    _check(Dense, Dense)


def test_four_axes_that_no_image_operator_reads_stay_in_order():
    @I.ir_module
    class Elementwise:
        @R.function
        def main(x: R.Tensor((2, 3, 4, 5), "float32")):
            with R.dataflow():
                a = R.sign(x)
                y = R.multiply(a, R.const(np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1)))
                R.output(y)
            return y

    _check(Elementwise, Elementwise)


def _dense(features, order=None, between=lambda flat: flat):
    w = np.arange(features * 3, dtype=np.float32).reshape(features, 3) % 11 - 5
    build = lambda x: op.matmul(between(op.reshape(_conv(x), [2, features])), relax.const(w))  # noqa: E731
    new, ctx = canonical(_module(build, (2, 4, 3, 5)))
    return w, new, ctx


def _last_weights(mod):
    return constant(Graph(mod).bindings[-1].value.args[1])


def test_a_dense_layer_after_a_flatten_has_its_rows_permuted():
    w, new, ctx = _dense(90)
    assert operators(new) == ["permute_dims", "nn.conv2d", "reshape", "matmul"]
    np.testing.assert_array_equal(_last_weights(new), w.reshape(6, 3, 5, 3).transpose(1, 2, 0, 3).reshape(90, 3))


def test_constants_of_flattened_features_are_permuted_with_them():
    shift = np.arange(90, dtype=np.float32)
    _, new, _ = _dense(90, between=lambda flat: op.sign(op.subtract(flat, relax.const(shift))))
    assert operators(new) == ["permute_dims", "nn.conv2d", "reshape", "subtract", "sign", "matmul"]
    np.testing.assert_array_equal(constant(Graph(new).bindings[3].value.args[1]), shift.reshape(6, 3, 5).transpose(1, 2, 0).ravel())


def test_the_view_of_flattened_features_says_how_they_are_stored():
    _, new, ctx = _dense(90)
    (name,) = (b.var.name for b in Graph(new).bindings if b.value.op.name == "relax.reshape")
    assert ctx.tensors[name] == TensorView("onnx_" + name, (0, 2, 1), split=(2, 6, 15), shape=(2, 90), onnx_shape=(2, 90))


def test_a_flatten_of_pooled_channels_leaves_the_weights():
    w = _whole(6, 3)
    new, _ = canonical(_module(lambda x: op.matmul(op.reshape(op.mean(_conv(x), [2, 3], True), [2, 6]), relax.const(w)), (2, 4, 3, 5)))
    assert operators(new) == ["permute_dims", "nn.conv2d", "mean", "reshape", "matmul"]
    np.testing.assert_array_equal(_last_weights(new), w)


def test_flattened_features_return_to_their_order_where_that_shows():
    new, _ = canonical(_module(lambda x: op.reshape(_conv(x), [2, 90]), (2, 4, 3, 5)))
    assert operators(new) == ["permute_dims", "nn.conv2d", "reshape", "take"]
    assert constant(Graph(new).bindings[3].value.args[1]).tolist() == np.arange(90).reshape(15, 6).T.ravel().tolist()


def _shuffled(x, groups=2):
    n, c, h, w = (int(d) for d in x.ty.shape.values)
    return op.reshape(op.permute_dims(op.reshape(x, [n, groups, c // groups, h, w]), [0, 2, 1, 3, 4]), [n, c, h, w])


def _bound(*functions):
    """Chain functions on one parameter, binding every step, so that shapes are known."""
    params = [relax.Var("x", relax.TensorType((2, 4, 6, 6), "float32"))]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            value = params[0]
            for f in functions:
                value = builder.emit(f(value))
            out = builder.emit_output(op.negative(value))
        builder.emit_func_output(out)
    return builder.get()


def test_a_channel_shuffle_becomes_one_take_of_channels():
    new, _ = canonical(_bound(_conv, _shuffled, lambda v: op.nn.max_pool2d(v, [2, 2])))
    assert operators(new) == ["permute_dims", "nn.conv2d", "take", "nn.max_pool2d", "negative", "permute_dims"]
    take = Graph(new).bindings[2].value
    assert take.attrs.axis == 3 and constant(take.args[1]).tolist() == [0, 3, 1, 4, 2, 5]


def test_a_shuffle_undone_leaves_nothing():
    new, _ = canonical(_bound(_conv, lambda v: _shuffled(v, 2), lambda v: _shuffled(v, 3), lambda v: op.nn.max_pool2d(v, [2, 2])))
    assert operators(new) == ["permute_dims", "nn.conv2d", "nn.max_pool2d", "negative", "permute_dims"]


@pytest.mark.parametrize("axis, channels", [(1, [0, 1, 2, 3, 4, 5] * 3), (2, [c for c in range(6) for _ in range(3)])])
def test_slices_of_a_sign_become_channels(axis, channels):
    offsets = np.array([-1, 0, 2], np.float32).reshape([3 if i == axis else 1 for i in range(5)])
    new, _ = canonical(
        _bound(
            _conv,
            lambda v: op.expand_dims(v, [axis]),
            lambda v: op.add(v, relax.const(offsets)),
            op.sign,
            lambda v: op.reshape(v, [2, 18, 6, 6]),
            lambda v: op.nn.max_pool2d(v, [2, 2]),
        )
    )
    assert operators(new) == ["permute_dims", "nn.conv2d", "take", "add", "sign", "nn.max_pool2d", "negative", "permute_dims"]
    bindings = Graph(new).bindings
    assert constant(bindings[2].value.args[1]).tolist() == channels
    assert constant(bindings[3].value.args[1]).tolist() == ([-1.0] * 6 + [0.0] * 6 + [2.0] * 6 if axis == 1 else [-1.0, 0.0, 2.0] * 6)


def _five(*functions):
    return _bound(_conv, lambda v: op.reshape(v, [2, 3, 2, 6, 6]), *functions, lambda v: op.reshape(v, [2, -1, 6, 6]), lambda v: op.nn.max_pool2d(v, [2, 2]))


def test_a_slice_of_the_outer_part_of_the_channels_is_a_slice():
    new, _ = canonical(_bound(_conv, _shuffled, lambda v: op.reshape(v, [2, 3, 2, 6, 6]), lambda v: op.strided_slice(v, [2], [1], [2]),
                              lambda v: op.reshape(v, [2, 3, 6, 6]), lambda v: op.nn.max_pool2d(v, [2, 2])))  # fmt: skip
    assert operators(new) == ["permute_dims", "nn.conv2d", "strided_slice", "nn.max_pool2d", "negative", "permute_dims"]
    assert [int(v) for v in Graph(new).bindings[2].value.args[2].fields] == [3]


def test_a_slice_of_the_inner_part_of_the_channels_is_a_take():
    new, _ = canonical(_bound(_conv, lambda v: op.reshape(v, [2, 3, 2, 6, 6]), lambda v: op.strided_slice(v, [2], [1], [2]),
                              lambda v: op.reshape(v, [2, 3, 6, 6]), lambda v: op.nn.max_pool2d(v, [2, 2])))  # fmt: skip
    assert operators(new)[2] == "take"
    assert constant(Graph(new).bindings[2].value.args[1]).tolist() == [1, 3, 5]


def test_a_stack_of_images_stays_nhwc():
    new, _ = canonical(
        _bound(
            _conv,
            lambda v: op.expand_dims(v, [1]),
            lambda v: op.concat([v, v], 1),
            lambda v: op.reshape(v, [2, 12, 6, 6]),
            lambda v: op.nn.max_pool2d(v, [2, 2]),
        )
    )
    assert operators(new) == ["permute_dims", "nn.conv2d", "concat", "nn.max_pool2d", "negative", "permute_dims"]


def test_a_reduction_over_a_part_of_the_channels_needs_no_transpose():
    new, _ = canonical(_five(lambda v: op.max(v, [2], True)))
    assert operators(new) == ["permute_dims", "nn.conv2d", "reshape", "max", "reshape", "nn.max_pool2d", "negative", "permute_dims"]


AXES = {
    "concat on channels": (lambda v: op.concat([v, v], 1), "concat", {"axis": 3}),
    "concat on rows": (lambda v: op.concat([v, v], 2), "concat", {"axis": 1}),
    "mean over the image": (lambda v: op.mean(v, [2, 3], True), "mean", {"axis": [1, 2]}),
    "max over channels": (lambda v: op.max(v, [1]), "max", {"axis": [3]}),
    "softmax over channels": (lambda v: op.nn.softmax(v, 1), "nn.softmax", {"axis": 3}),
    "edge padding": (lambda v: op.nn.pad(v, [0, 0, 0, 0, 1, 2, 3, 4], "replicate"), "nn.pad", {"pad_width": [0, 0, 1, 2, 3, 4, 0, 0]}),
    "gather of channels": (lambda v: op.take(v, relax.const([2, 0]), 1), "take", {"axis": 3}),
    "gather of one row": (lambda v: op.take(v, relax.const(2), 2), "take", {"axis": 1}),
    "prelu by channel": (lambda v: op.nn.prelu(v, relax.const(_whole(6)), 1), "nn.prelu", {"axis": 3}),
}


@pytest.mark.parametrize("name", AXES)
def test_an_axis_is_named_as_it_is_stored(name):
    build, operator, attributes = AXES[name]
    new, _ = canonical(_bound(_conv, build), tolerance=1e-6)
    (call,) = (b.value for b in Graph(new).bindings if b.value.op.name == "relax." + operator)
    for key, value in attributes.items():
        got = getattr(call.attrs, key)
        assert ([int(v) for v in got] if isinstance(value, list) else int(got)) == value
    assert operators(new)[:3] == ["permute_dims", "nn.conv2d", operator]


def test_a_split_becomes_slices_of_the_last_axis():
    def build(v):
        return relax.TupleGetItem(v, 1)

    new, ctx = canonical(_bound(_conv, lambda v: op.split(v, 3, 1), build, lambda v: op.nn.max_pool2d(v, [2, 2])))
    assert operators(new) == ["permute_dims", "nn.conv2d", "strided_slice", "nn.max_pool2d", "negative", "permute_dims"]
    call = Graph(new).bindings[2].value
    assert [[int(v) for v in t.fields] for t in call.args[1:]] == [[3], [2], [4], [1]]


IMAGE_OPERATORS = {
    "max_pool2d": lambda v: op.nn.max_pool2d(v, [3, 2], [2, 1], [1, 0, 0, 1], ceil_mode=True),
    "avg_pool2d": lambda v: op.nn.avg_pool2d(v, [2, 2], [2, 2], [1, 0, 1, 0], count_include_pad=True),
    "adaptive_avg_pool2d": lambda v: op.nn.adaptive_avg_pool2d(v, [2, 3]),
    "resize2d": lambda v: op.image.resize2d(
        v, (9, 4), layout="NCHW", method="nearest_neighbor", coordinate_transformation_mode="asymmetric", rounding_method="floor"
    ),
    "strided, dilated, grouped convolution": lambda v: op.nn.conv2d(
        v, relax.const(_whole(4, 3, 2, 2)), strides=[2, 1], padding=[1, 0, 2, 1], dilation=[2, 1], groups=2
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGE_OPERATORS)
def test_an_image_operator_takes_and_gives_nhwc(name):
    new, _ = canonical(_bound(_conv, IMAGE_OPERATORS[name]), tolerance=1e-6)
    assert operators(new)[0] == "permute_dims" and operators(new)[3:] == ["negative", "permute_dims"]
    call = Graph(new).bindings[2].value
    assert (call.attrs.data_layout if "conv" in name else call.attrs.layout) == "NHWC"


def test_weights_that_are_computed_are_transposed_at_run_time():
    mod = _module(lambda x, w: op.nn.conv2d(x, w), (1, 4, 5, 5), (6, 4, 3, 3))
    assert operators(canonical(mod)[0]) == ["permute_dims", "permute_dims", "nn.conv2d", "permute_dims"]


def test_an_operator_without_a_rule_gets_its_onnx_layout():
    new, _ = canonical(_bound(_conv, lambda v: op.flip(v, 1), lambda v: op.nn.max_pool2d(v, [2, 2])))
    assert operators(new) == ["permute_dims", "nn.conv2d", "permute_dims", "flip", "permute_dims", "nn.max_pool2d", "negative", "permute_dims"]


def test_a_product_of_two_values_gets_its_onnx_layout():
    mod = _module(lambda a, b: op.matmul(op.nn.max_pool2d(a, [1, 1]), op.nn.max_pool2d(b, [1, 1])), (1, 2, 3, 4), (1, 2, 4, 5))
    assert "matmul" in operators(canonical(mod)[0])


def test_one_transpose_serves_all_readers_of_an_input():
    mod = _bound(lambda x: op.add(op.nn.max_pool2d(x, [1, 1]), op.nn.avg_pool2d(x, [1, 1])))
    assert operators(canonical(mod)[0]) == ["permute_dims", "nn.max_pool2d", "nn.avg_pool2d", "add", "negative", "permute_dims"]


def test_an_input_is_transposed_before_the_arithmetic_on_it():
    new, _ = canonical(_bound(lambda x: op.subtract(x, relax.const(_whole(4, 1, 1))), _conv))
    assert operators(new) == ["permute_dims", "subtract", "nn.conv2d", "negative", "permute_dims"]
    assert constant(Graph(new).bindings[1].value.args[1]).shape == (4,)


def test_names_and_provenance_stay():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 4, 5, 5), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(x, R.const(W))
                shifted = R.add(conv, R.const(C))
                y = R.permute_dims(shifted, [0, 2, 3, 1])
                R.output(y)
            return y

    ctx = PassContext(tensors={"x": TensorView("input"), "conv": TensorView("c"), "shifted": TensorView("s"), "y": TensorView("output")})
    new = canonicalize_layout(Before, ctx)
    assert [b.var.name for b in Graph(new).bindings] == ["x_1", "conv", "shifted"]
    assert ctx.tensors == {
        "x": TensorView("input"),
        "x_1": TensorView("input", (0, 2, 3, 1)),
        "conv": TensorView("c", (0, 2, 3, 1)),
        "shifted": TensorView("s", (0, 2, 3, 1)),
    }


@pytest.mark.parametrize("seed", range(60))
def test_random_movement_means_the_same_and_every_view_holds(seed):
    canonical(random_movement(seed), seed)


def test_a_tuple_used_whole_is_refused():
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            parts = builder.emit(op.split(x, 2, 0), "parts")
            out = builder.emit_output(op.concat(parts, 0))
        builder.emit_func_output(out)
    mod = builder.get()
    with pytest.raises(InternalError, match="the tuple parts is used whole"):
        canonicalize_layout(mod, PassContext())


def test_a_parameter_that_is_no_tensor_is_refused():
    pair = relax.Var("pair", relax.TupleType([relax.TensorType((3,), "float32")]))
    mod = tvm.IRModule({"main": relax.Function([pair], relax.BlockBuilder().normalize(relax.SeqExpr([], pair)), pair.ty)})
    with pytest.raises(InternalError, match="pair is no tensor"):
        canonicalize_layout(mod, PassContext())
