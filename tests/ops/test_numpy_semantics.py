"""The NumPy meaning of Relax's operators against onnxruntime, operator by operator, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op

from bnncc.errors import InternalError
from bnncc.ops.interpreter import evaluate_elementwise, run_module

from .dialect import module_of
from .onnx_node import run_node

SPECIAL = np.array([0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1.0, -1.0, np.inf, -np.inf, 1e-40, 3.4e38, 16777217.0], np.float32)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(np.float32)


X = np.concatenate([SPECIAL, floats(500)])
Y = np.concatenate([np.roll(SPECIAL, 3), floats(500, seed=1)])

EXACT_UNARY = {
    "Abs": op.abs,
    "Ceil": op.ceil,
    "Floor": op.floor,
    "Neg": op.negative,
    "Round": op.round,
    "Sign": op.sign,
    "Relu": op.nn.relu,
}
NEAR_UNARY = {"Exp": op.exp, "Tanh": op.tanh, "Sigmoid": op.sigmoid, "Erf": op.erf}
EXACT_BINARY = {
    "Add": op.add,
    "Sub": op.subtract,
    "Mul": op.multiply,
    "Div": op.divide,
    "Max": op.maximum,
    "Min": op.minimum,
    "Greater": op.greater,
    "GreaterOrEqual": op.greater_equal,
    "Less": op.less,
    "LessOrEqual": op.less_equal,
    "Equal": op.equal,
}
LOGIC = {"And": op.logical_and, "Or": op.logical_or, "Xor": op.logical_xor}


@pytest.mark.parametrize("name", EXACT_UNARY)
def test_unary_operators_agree_bit_for_bit(name):
    np.testing.assert_array_equal(run_module(module_of(EXACT_UNARY[name], X), X), run_node(name, X))


@pytest.mark.parametrize("name", NEAR_UNARY)
def test_transcendental_operators_agree_to_the_last_places(name):
    x = X[np.abs(X) < 80]
    np.testing.assert_allclose(run_module(module_of(NEAR_UNARY[name], x), x), run_node(name, x), rtol=3e-6, atol=1e-7)  # onnxruntime cuts the sigmoid off at 18


@pytest.mark.parametrize("name, build", [("Sqrt", op.sqrt), ("Log", op.log)])
def test_operators_of_positive_numbers(name, build):
    x = np.abs(X[np.isfinite(X) & (np.abs(X) > 1e-30)])
    np.testing.assert_allclose(run_module(module_of(build, x), x), run_node(name, x), rtol=0 if name == "Sqrt" else 1e-6)


@pytest.mark.parametrize("name", EXACT_BINARY)
def test_binary_operators_agree_bit_for_bit(name):
    np.testing.assert_array_equal(run_module(module_of(EXACT_BINARY[name], X, Y), X, Y), run_node(name, X, Y))


@pytest.mark.parametrize("name", LOGIC)
def test_logic_of_booleans(name):
    a, b = X > 0, Y > 0
    np.testing.assert_array_equal(run_module(module_of(LOGIC[name], a, b), a, b), run_node(name, a, b))


def test_integers_divide_toward_zero():
    a, b = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    np.testing.assert_array_equal(run_module(module_of(op.divide, a, b), a, b), run_node("Div", a, b))


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 0.5])
def test_power(exponent):
    x, e = np.abs(floats(300)), np.float32(exponent)
    np.testing.assert_allclose(run_module(module_of(op.power, x, np.array(e)), x, np.array(e)), run_node("Pow", x, np.array(e)), rtol=2e-7)


def test_powers_of_two_and_three_are_products():
    x = floats(1000)
    np.testing.assert_array_equal(evaluate_elementwise("relax.power", None, x, np.float32(2)), x * x)
    np.testing.assert_array_equal(evaluate_elementwise("relax.power", None, x, np.float32(3)), x * x * x)


def test_clip_bounds_are_rounded_to_the_tensor_s_type():
    x = floats(100)
    got = run_module(module_of(lambda v: op.clip(v, -0.1, 0.1), x), x)
    np.testing.assert_array_equal(got, run_node("Clip", x, np.float32(-0.1), np.float32(0.1), constants=(1, 2)))


def test_leakyrelu_and_prelu_scale_what_is_below_zero():
    x, slope = floats(2, 4, 3), floats(4)
    np.testing.assert_array_equal(run_module(module_of(lambda v: op.nn.leakyrelu(v, 0.1), x), x), run_node("LeakyRelu", x, alpha=0.1))
    got = run_module(module_of(lambda v, s: op.nn.prelu(v, s, 1), x, slope), x, slope)
    np.testing.assert_array_equal(got, run_node("PRelu", x, slope[:, None]))


def test_where_picks_by_condition():
    c = X > 0
    np.testing.assert_array_equal(run_module(module_of(op.where, c, X, Y), c, X, Y), np.array([x if p else y for p, x, y in zip(c, X, Y)]))


@pytest.mark.parametrize("dtype", ["bool", "int32", "int8"])
def test_astype_truncates_and_tests_for_zero(dtype):
    x = np.array([0.0, -0.0, 0.9, -0.9, 1.7, -1.7, 100.0], np.float32)
    want = [v != 0 for v in x.tolist()] if dtype == "bool" else [int(v) for v in x.tolist()]
    assert run_module(module_of(lambda v: op.astype(v, dtype), x), x).tolist() == want


LAYOUTS = [("NCHW", "OIHW"), ("NHWC", "HWIO"), ("NHWC", "OHWI"), ("NCHW", "HWIO")]


def _moved(x, source, target):
    return x.transpose([source.index(a) for a in target])


@pytest.mark.parametrize("data, kernel", LAYOUTS)
@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 1]}, {"padding": [1, 0, 2, 3]}, {"dilation": [2, 3]}, {"groups": 2}], ids=str)
def test_conv2d_in_every_layout(attributes, data, kernel):
    groups = attributes.get("groups", 1)
    x, w = floats(2, 4, 8, 9), floats(6, 4 // groups, 3, 2)
    named = {"strides": "strides", "padding": "pads", "dilation": "dilations", "groups": "group"}
    want = run_node("Conv", x, w, **{named[k]: v for k, v in attributes.items()})
    x, w = _moved(x, "NCHW", data), _moved(w, "OIHW", kernel)
    got = run_module(module_of(lambda a, b: op.nn.conv2d(a, b, data_layout=data, kernel_layout=kernel, **attributes), x, w), x, w)
    np.testing.assert_allclose(_moved(got, data, "NCHW"), want, rtol=1e-5, atol=1e-5)


TRANSPOSED = [{}, {"strides": [2, 3]}, {"padding": [1, 0, 1, 1]}, {"strides": [2, 2], "output_padding": [1, 0]}, {"groups": 2}]


@pytest.mark.parametrize("attributes", TRANSPOSED, ids=str)
def test_conv2d_transpose(attributes):
    groups = attributes.get("groups", 1)
    x, w = floats(2, 4, 5, 6), floats(4, 6 // groups, 3, 2)
    named = {"strides": "strides", "padding": "pads", "output_padding": "output_padding", "groups": "group"}
    want = run_node("ConvTranspose", x, w, **{named[k]: v for k, v in attributes.items()})
    got = run_module(module_of(lambda a, b: op.nn.conv2d_transpose(a, b, **attributes), x, w), x, w)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


POOLS = [
    {"pool_size": [2, 3]},
    {"pool_size": [3, 3], "strides": [2, 2], "padding": [1, 0, 1, 1]},
    {"pool_size": [2, 2], "strides": [2, 2], "ceil_mode": True},
    {"pool_size": [2, 2], "strides": [3, 4], "padding": [1, 1, 1, 1], "ceil_mode": True},  # a last window would start in the padding
]

AVERAGES = [
    *POOLS,
    {"pool_size": [3, 3], "strides": [2, 3], "padding": [1, 1, 1, 1], "ceil_mode": True},  # the last window reaches beyond the padding
    {"pool_size": [3, 2], "strides": [2, 2], "padding": [1, 1, 2, 1], "dilation": [2, 3], "ceil_mode": True},
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("attributes", POOLS, ids=str)
def test_max_pool2d(attributes, layout):
    x = floats(2, 3, 7, 9)
    named = {"pool_size": "kernel_shape", "strides": "strides", "padding": "pads", "ceil_mode": "ceil_mode"}
    want = run_node("MaxPool", x, **{named[k]: int(v) if k == "ceil_mode" else v for k, v in attributes.items()})
    x = _moved(x, "NCHW", layout)
    got = run_module(module_of(lambda a: op.nn.max_pool2d(a, layout=layout, **attributes), x), x)
    np.testing.assert_array_equal(_moved(got, layout, "NCHW"), want)


@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize("attributes", AVERAGES, ids=str)
def test_avg_pool2d_counts_padding_or_not(attributes, count):
    x = floats(2, 3, 7, 9)
    named = {"pool_size": "kernel_shape", "strides": "strides", "padding": "pads", "ceil_mode": "ceil_mode", "dilation": "dilations"}
    attributes_of_onnx = {named[k]: int(v) if k == "ceil_mode" else v for k, v in attributes.items()}
    want = run_node("AveragePool", x, opset=19, count_include_pad=int(count), **attributes_of_onnx)
    got = run_module(module_of(lambda a: op.nn.avg_pool2d(a, count_include_pad=count, **attributes), x), x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_adaptive_avg_pool2d_of_one_is_the_mean():
    x = floats(2, 3, 7, 9)
    got = run_module(module_of(lambda a: op.nn.adaptive_avg_pool2d(a, [1, 1]), x), x)
    np.testing.assert_allclose(got, run_node("GlobalAveragePool", x), rtol=1e-5, atol=1e-6)


RESIZES = [
    ("nearest", "asymmetric", "floor"),
    ("nearest", "half_pixel", "round_prefer_floor"),
    ("nearest", "half_pixel", "round_prefer_ceil"),
    ("nearest", "align_corners", "ceil"),
    ("linear", "half_pixel", "round_prefer_floor"),
    ("linear", "align_corners", "round_prefer_floor"),
    ("linear", "pytorch_half_pixel", "round_prefer_floor"),
]


@pytest.mark.parametrize("size", [(8, 10), (3, 4), (1, 7)])
@pytest.mark.parametrize("mode, coordinates, nearest", RESIZES)
def test_resize2d(mode, coordinates, nearest, size):
    x = floats(1, 2, 4, 5)
    sizes = np.array([1, 2, *size], np.int64)
    want = run_node(
        "Resize", x, np.zeros(0, np.float32), np.zeros(0, np.float32), sizes,
        constants=(1, 2, 3), mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=nearest,
    )  # fmt: skip
    method = {"nearest": "nearest_neighbor", "linear": "linear"}[mode]
    build = lambda a: op.image.resize2d(  # noqa: E731
        a, size, layout="NCHW", method=method, coordinate_transformation_mode=coordinates, rounding_method=nearest
    )
    np.testing.assert_allclose(run_module(module_of(build, x), x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode, relax_mode", [("constant", "constant"), ("edge", "replicate"), ("reflect", "reflect"), ("wrap", "circular")])
def test_pad(mode, relax_mode):
    x = floats(1, 2, 4, 5)
    width = [0, 0, 0, 1, 2, 1, 3, 0]
    pads = np.array(width[::2] + width[1::2], np.int64)
    want = run_node("Pad", x, pads, np.float32(1.5), constants=(1, 2), mode=mode, opset=19)
    np.testing.assert_array_equal(run_module(module_of(lambda a: op.nn.pad(a, width, relax_mode, 1.5), x), x), want)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [[1], [2, 3], [-1], None])
@pytest.mark.parametrize("name, build", [("ReduceMean", op.mean), ("ReduceSum", op.sum), ("ReduceMax", op.max), ("ReduceMin", op.min), ("ReduceProd", op.prod)])
def test_reductions(name, build, axis, keepdims):
    x = floats(2, 3, 4, 5) / 3
    axes = [np.array(axis, np.int64)] if axis else []
    want = run_node(name, x, *axes, constants=(1,) if axis else (), keepdims=int(keepdims))
    got = run_module(module_of(lambda a: build(a, axis, keepdims), x), x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_matmul_broadcasts_batches():
    a, b = floats(2, 3, 4, 5), floats(3, 5, 6)
    np.testing.assert_allclose(run_module(module_of(op.matmul, a, b), a, b), run_node("MatMul", a, b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name, build", [("Softmax", op.nn.softmax), ("LogSoftmax", op.nn.log_softmax)])
@pytest.mark.parametrize("axis", [1, -1])
def test_softmax(name, build, axis):
    x = floats(2, 3, 4)
    np.testing.assert_allclose(run_module(module_of(lambda a: build(a, axis), x), x), run_node(name, x, axis=axis), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("begin, end, step", [(1, 4, 1), (0, 100, 2), (-3, -1, 1), (4, 0, -2), (-1, -100, -1), (100, -100, -3)])
def test_strided_slice_counts_from_the_end_and_stops_at_the_ends(begin, end, step):
    x = floats(2, 5)
    want = run_node("Slice", x, *(np.array([v], np.int64) for v in (begin, end, 1, step)), constants=(1, 2, 3, 4))
    np.testing.assert_array_equal(run_module(module_of(lambda a: op.strided_slice(a, [1], [begin], [end], [step]), x), x), want)


MOVEMENTS = {
    "permute_dims": (lambda a: op.permute_dims(a, [2, 0, 1]), lambda a: np.einsum("abc->cab", a)),
    "permute_dims without axes": (lambda a: op.permute_dims(a), lambda a: a.T),
    "reshape": (lambda a: op.reshape(a, (4, 6)), lambda a: a.ravel().reshape(4, 6)),
    "flatten": (lambda a: op.flatten(a), np.ravel),
    "expand_dims": (lambda a: op.expand_dims(a, [1, 2]), lambda a: a[:, None, None]),
    "squeeze": (lambda a: op.squeeze(op.expand_dims(a, [1])), lambda a: a),
    "broadcast_to": (lambda a: op.broadcast_to(a, (5, 2, 3, 4)), lambda a: np.stack([a] * 5)),
    "concat": (lambda a: op.concat([a, a], 1), lambda a: np.hstack([a, a])),
    "stack": (lambda a: op.stack([a, a], 0), lambda a: np.array([a, a])),
    "split at cuts": (lambda a: op.split(a, [1, 3], 2)[1], lambda a: a[:, :, 1:3]),
    "split in parts": (lambda a: op.split(a, 2, 2)[1], lambda a: a[:, :, 2:]),
    "take": (lambda a: op.take(a, relax.const([2, 0, 2]), 1), lambda a: a[:, [2, 0, 2]]),
    "take of one": (lambda a: op.take(a, relax.const(1), 1), lambda a: a[:, 1]),
    "tile": (lambda a: op.tile(a, [1, 2, 1]), lambda a: np.concatenate([a, a], 1)),
    "repeat": (lambda a: op.repeat(a, 2, 1), lambda a: a[:, [0, 0, 1, 1, 2, 2]]),
    "flip": (lambda a: op.flip(a, 1), lambda a: a[:, ::-1]),
    "argmax": (lambda a: op.argmax(a, 1), lambda a: a.argmax(1)),
    "layer_norm": (
        lambda a: op.nn.layer_norm(a, relax.const(np.ones(4, np.float32)), relax.const(np.zeros(4, np.float32)), [-1]),
        lambda a: (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + np.float32(1e-5)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVEMENTS)
def test_movement(name):
    build, expected = MOVEMENTS[name]
    x = floats(2, 3, 4)
    np.testing.assert_allclose(run_module(module_of(build, x), x), expected(x), rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_is_depth_to_space(factor):
    x = floats(2, 2 * factor * factor, 3, 4)
    got = run_module(module_of(lambda a: op.nn.pixel_shuffle(a, factor), x), x)
    np.testing.assert_array_equal(got, run_node("DepthToSpace", x, blocksize=factor, mode="CRD"))


def test_batch_norm_uses_the_stored_statistics():
    x, gamma, beta, mean, var = floats(2, 3, 4, 4), floats(3), floats(3, seed=1), floats(3, seed=2), np.abs(floats(3, seed=3))
    build = lambda *a: op.nn.batch_norm(*a, axis=1, training=False)[0]  # noqa: E731
    got = run_module(module_of(build, x, gamma, beta, mean, var), x, gamma, beta, mean, var)
    np.testing.assert_allclose(got, run_node("BatchNormalization", x, gamma, beta, mean, var), rtol=1e-4, atol=1e-5)


def _fails(message, build, *arrays, feed=None):
    with pytest.raises(InternalError, match=message):
        run_module(module_of(build, *arrays), *(arrays if feed is None else feed))


def test_a_blocked_layout_is_refused():
    _fails("Layout NCHW4c", lambda a: op.nn.max_pool2d(a, layout="NCHW4c", pool_size=(2, 2)), floats(1, 2, 4, 4, 4))


def test_a_cubic_resize_is_refused():
    _fails("method 'cubic'", lambda a: op.image.resize2d(a, (4, 4), method="cubic"), floats(1, 2, 3, 3))


def test_an_unknown_coordinate_mode_is_refused():
    build = lambda a: op.image.resize2d(a, (4, 4), coordinate_transformation_mode="tf_crop_and_resize")  # noqa: E731
    _fails("tf_crop_and_resize", build, floats(1, 2, 3, 3))


def test_an_unknown_pad_mode_is_refused():
    _fails("mode 'mirror'", lambda a: op.nn.pad(a, [1, 1], "mirror"), floats(3))


def test_batch_norm_in_training_is_refused():
    _fails("training mode", lambda *a: op.nn.batch_norm(*a, axis=1)[0], floats(2, 3), *[floats(3)] * 4)
