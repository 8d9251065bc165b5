from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.recognise_quantize import recognise_quantize
from bnncc.passes.rewrite import Graph, const

from .programs import bindings, module, operators, rewritten, unchanged

X = ((2, 4, 4, 3), "float32")
GAMMA = np.array([1.5, -0.75, 3.0], np.float32)
BETA = np.array([0.375, 0.75, -1.5], np.float32)
ONE, ZERO = np.float32(1), np.float32(0)
FALLING = np.array([1, -1, 1], np.int8)


def constants(mod, name):
    """Return the arrays among the operands of the one operator of that name."""
    (call,) = bindings(mod, name)
    return [a.value.numpy() for a in call.args[1:]]


def test_the_batchnorm_before_a_comparison_is_in_its_thresholds():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 4, 4, 3), "float32")):
            with R.dataflow():
                a = R.multiply(x, R.const(GAMMA))
                b = R.add(a, R.const(BETA))
                p = R.greater_equal(b, R.const(0.0, "float32"))
                y = R.where(p, R.const(1.0, "float32"), R.const(-1.0, "float32"))
                R.output(y)
            return y

    thresholds = np.array([[-0.25, 1.0, 0.5]], np.float32)

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 4, 4, 3), "float32")):
            with R.dataflow():
                c = R.bnn.quantize(x, R.const(thresholds), R.const(FALLING, "int8"))
                y = R.bnn.dequantize(c, R.const(1.0, "float32"), R.const(0.0, "float32"))
                R.output(y)
            return y

    tvm.ir.assert_structural_equal(rewritten(recognise_quantize, Before), Expected)


def test_a_sign_has_a_threshold_on_either_side_of_zero():
    after = rewritten(recognise_quantize, module(op.sign, X))
    (call,) = bindings(after, "bnn.quantize")
    assert (call.attrs.lo, call.attrs.step) == (-1, 1)
    assert constants(after, "bnn.quantize")[0].tolist() == [0, np.float32(1e-45)]


@pytest.mark.parametrize("low, high", [(0, 1), (-2, 2), (-0.5, 0.25), (3, 7)])
def test_scale_and_offset_are_those_of_the_two_values(low, high):
    build = lambda x: op.where(op.greater(x, const(ZERO)), const(np.float32(high)), const(np.float32(low)))  # noqa: E731
    after = rewritten(recognise_quantize, module(build, X))
    scale, offset = constants(after, "bnn.dequantize")
    assert (offset - scale, offset + scale) == (low, high)


def test_a_boolean_stays_a_boolean():
    after = rewritten(recognise_quantize, module(lambda x: op.greater(x, const(BETA)), X))
    assert operators(after) == ["bnn.quantize", "bnn.dequantize", "greater"]


def test_thresholds_may_vary_over_an_image():
    plane = np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype(np.float32)
    after = rewritten(recognise_quantize, module(lambda x: op.sign(op.subtract(x, const(plane))), X))
    assert constants(after, "bnn.quantize")[0].shape == (2, 4, 4, 3)


def test_the_chain_starts_behind_whatever_is_no_elementwise_operator():
    weights = np.random.default_rng(0).standard_normal((3, 3, 3, 5)).astype(np.float32)
    build = lambda x: op.sign(op.nn.relu(op.nn.conv2d(x, const(weights), data_layout="NHWC", kernel_layout="HWIO")))  # noqa: E731
    after = rewritten(recognise_quantize, module(build, X))
    assert operators(after) == ["nn.conv2d", "bnn.quantize", "bnn.dequantize"]


def test_a_sum_of_two_tensors_is_a_root_of_its_own():
    after = rewritten(recognise_quantize, module(lambda x, y: op.sign(op.multiply(op.add(x, y), const(GAMMA))), X, X))
    assert operators(after) == ["add", "bnn.quantize", "bnn.dequantize"]


def test_a_tensor_that_grows_by_broadcasting_is_a_root_of_its_own():
    rows = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    after = rewritten(recognise_quantize, module(lambda x: op.sign(op.add(x, const(rows))), ((1, 3), "float32")))
    assert operators(after) == ["add", "bnn.quantize", "bnn.dequantize"]


def test_a_tensor_that_is_read_elsewhere_stays_beside_its_codes():
    def build(x):
        normal = relax.BlockBuilder.current().emit(op.multiply(x, const(GAMMA)))
        return op.sign(normal), normal

    assert operators(rewritten(recognise_quantize, module(build, X))) == ["multiply", "bnn.quantize", "bnn.dequantize"]


def test_inner_steps_of_a_quantizer_get_no_codes_of_their_own():
    build = lambda x: op.multiply(op.sign(x), const(np.float32(0.5)))  # noqa: E731
    assert operators(rewritten(recognise_quantize, module(build, X))) == ["bnn.quantize", "bnn.dequantize"]


def test_a_quantizer_starts_in_the_middle_where_the_whole_chain_turns_over():
    slope = np.array([0.25, -0.5, 1.0], np.float32)
    build = lambda x: op.sign(op.add(op.nn.prelu(x, const(slope), 3), const(np.float32(-0.5))))  # noqa: E731
    after = rewritten(recognise_quantize, module(build, X))
    assert operators(after)[0] == "nn.prelu" and operators(after)[-2:] == ["bnn.quantize", "bnn.dequantize"]


@pytest.mark.parametrize("end", [op.sign, lambda y: op.round(op.multiply(op.clip(y, 0, 1), const(np.float32(7))))], ids=["sign", "round"])
def test_a_quantizer_in_front_of_a_layer_is_found_behind_what_cannot_be_analysed(end):
    """A product of two rising functions, as a hard swish is, neither rises nor falls by construction; what follows it is a function of the product."""

    def build(x):
        emit = relax.BlockBuilder.current().emit
        swish = emit(op.multiply(x, emit(op.clip(emit(op.add(x, const(np.float32(3)))), 0, 6))))
        return op.nn.conv2d(emit(end(swish)), const(np.ones((3, 3, 3, 4), np.float32)), data_layout="NHWC", kernel_layout="HWIO")

    after = rewritten(recognise_quantize, module(build, X))
    assert "bnn.dequantize" in operators(after) and operators(after)[:3] == ["add", "clip", "multiply"]


def test_running_twice_changes_nothing_more():
    once = recognise_quantize(module(lambda x: op.sign(op.multiply(x, const(GAMMA))), X), PassContext())
    unchanged(recognise_quantize, once)


LEFT = {
    "no levels": lambda x: op.nn.relu(op.multiply(x, const(GAMMA))),
    "four levels": lambda x: op.round(op.multiply(op.clip(x, 0, 1), const(np.float32(3)))),
    "integers": lambda x: op.astype(op.greater(x, const(ZERO)), "int32"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_quantizer_stays(name):
    unchanged(recognise_quantize, module(LEFT[name], X))


def test_the_operands_of_what_is_no_quantizer_as_a_whole_are_ones():
    """A window is +1 between two thresholds: a function of two signs."""

    def window(x):
        above, below = (op.astype(op.greater(x, const(np.float32(t))), "float32") for t in (-1, 1))
        return op.subtract(above, below)

    after = rewritten(recognise_quantize, module(window, X))
    assert operators(after) == ["bnn.quantize", "bnn.dequantize"] * 2 + ["subtract"]


def test_how_many_levels_a_tensor_takes_is_noted_for_the_report():
    ctx = PassContext()
    mod = module(LEFT["four levels"], X)
    recognise_quantize(mod, ctx)
    assert ctx.levels == {Graph(mod).outputs[0].name: 4}


@pytest.mark.parametrize("gamma", [1e-38, 1e-45, -1e-30, 3e38, 0.0])
@pytest.mark.parametrize("beta", [0.0, 1e-40, -1.0])
def test_thresholds_of_extreme_scales_hold_at_every_magnitude(gamma, beta):
    g, b = np.float32(gamma), np.float32(beta)
    x = np.concatenate([s * 10.0 ** np.arange(-45, 30) for s in (1, -1)] + [[0.0, -0.0]]).astype(np.float32).reshape(-1, 1)
    build = lambda v: op.where(op.greater_equal(op.add(op.multiply(v, const(g)), const(b)), const(ZERO)), const(ONE), const(-ONE))  # noqa: E731
    rewritten(recognise_quantize, module(build, (x.shape, "float32")), None, x)


def test_codes_are_views_of_the_tensor_they_stand_for():
    mod = module(lambda x: op.multiply(op.sign(x), const(np.float32(0.5))), X)
    out = Graph(mod).outputs[0].name
    ctx = PassContext(tensors={out: TensorView("onnx", (0, 2, 3, 1))})
    (code,) = [b.var.name for b in Graph(recognise_quantize(mod, ctx)).bindings if b.var.name.endswith("_code")]
    assert ctx.tensors[code] == TensorView("onnx", (0, 2, 3, 1), 0.5, 0.0)


def test_the_levels_of_each_channel_are_scale_and_offset_of_each_channel():
    low, high = np.array([-1, -2, 0], np.float32), np.array([1, 3, 4], np.float32)
    build = lambda x: op.where(op.greater(x, const(ZERO)), const(high), const(low))  # noqa: E731
    after = rewritten(recognise_quantize, module(build, X))
    assert [c.tolist() for c in constants(after, "bnn.dequantize")] == [((high - low) / 2).tolist(), ((high + low) / 2).tolist()]


def test_a_quantizer_read_by_two_is_made_once():
    def build(x):
        s = relax.BlockBuilder.current().emit(op.sign(x))
        return op.permute_dims(s, [0, 3, 1, 2]), op.permute_dims(s, [0, 2, 1, 3])

    assert operators(rewritten(recognise_quantize, module(build, X))).count("bnn.quantize") == 1


def test_the_codes_of_the_dialect_are_left_alone():
    codes = lambda x: bnn.dequantize(bnn.quantize(x, const(np.zeros(1, np.float32)), const(np.int8(1))), const(ONE), const(ZERO))  # noqa: E731
    unchanged(recognise_quantize, module(codes, X))


def rounded(x, low, high, scale):
    """Round as published quantizers do: ``round(clip(x / scale)) * scale``."""
    return op.multiply(op.round(op.clip(op.divide(x, const(np.float32(scale))), low, high)), const(np.float32(scale)))


def into_layer(make):
    """Return a module in which a 1x1 convolution reads ``make(x)``: whole numbers and powers of two as scales keep its sums exact."""
    weights = np.random.default_rng(0).integers(-3, 4, (1, 1, 3, 5)).astype(np.float32)
    return module(lambda x: op.nn.conv2d(make(x), const(weights), data_layout="NHWC", kernel_layout="HWIO"), X)


@pytest.mark.parametrize("low, high, lo", [(0, 3, 0), (0, 7, 0), (-4, 3, -4), (-2, 1, -2)])
def test_up_to_eight_levels_in_front_of_a_layer_are_thresholds(low, high, lo):
    after = rewritten(recognise_quantize, into_layer(lambda x: rounded(op.add(op.multiply(x, const(GAMMA)), const(BETA)), low, high, 0.25)))
    assert operators(after) == ["bnn.quantize", "bnn.dequantize", "nn.conv2d"]
    (call,) = bindings(after, "bnn.quantize")
    assert (call.attrs.lo, call.attrs.step, call.args[1].value.numpy().shape[0]) == (lo, 1, high - low)
    assert [float(c) for c in constants(after, "bnn.dequantize")] == [0.25, 0]


@pytest.mark.parametrize("low, high, dtype", [(0, 15, "int8"), (-127, 127, "int8"), (-128, 127, "int8"), (0, 255, "uint8")])
@pytest.mark.parametrize("scale", [0.125, 0.0078125])
def test_more_levels_keep_the_rounding_and_their_codes_are_exact(low, high, dtype, scale):
    after = rewritten(recognise_quantize, into_layer(lambda x: rounded(x, low, high, scale)))
    assert operators(after) == ["divide", "clip", "round", "multiply", "multiply", "round", "clip", "astype", "bnn.dequantize", "nn.conv2d"]
    assert bindings(after, "astype")[0].attrs.dtype == dtype


def test_levels_are_recognised_once():
    mod = recognise_quantize(into_layer(lambda x: rounded(x, 0, 255, 0.125)), PassContext())
    unchanged(recognise_quantize, mod)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: rounded(x, 0, 256, 0.125),
        lambda x: op.square(rounded(x, 0, 3, 1)),
        lambda x: op.nn.relu(x),
    ],
    ids=["257 levels", "uneven levels", "no levels"],
)
def test_other_functions_in_front_of_a_layer_stay(make):
    after = rewritten(recognise_quantize, into_layer(make))
    assert not bindings(after, "bnn.dequantize")


def test_levels_that_no_layer_reads_stay():
    unchanged(recognise_quantize, module(lambda x: rounded(x, 0, 7, 0.25), X))


def adaptive_sign(x, *others):
    """AdaBin's two learned values around a plain sign, a * (sign((x - b) / a) + b), with an a and a b that make uneven floats of the three levels."""
    a, b = const(np.float32(1.2137)), const(np.float32(0.0713))
    return op.multiply(a, op.add(op.sign(op.divide(op.subtract(x, b), a)), b))


def test_a_sign_times_and_plus_learned_numbers_is_one_of_three_codes_in_front_of_a_layer():
    weights = const(np.random.default_rng(0).standard_normal((1, 1, 3, 5)).astype(np.float32))
    build = lambda x: op.nn.conv2d(adaptive_sign(x), weights, data_layout="NHWC", kernel_layout="HWIO")  # noqa: E731
    after = rewritten(recognise_quantize, module(build, X), tolerance=1e-5)
    (call,) = bindings(after, "bnn.quantize")
    assert (call.attrs.lo, call.attrs.step, call.attrs.sign) == (-1, 1, 1)
    scale, offset = constants(after, "bnn.dequantize")
    np.testing.assert_allclose([scale, offset], [1.2137, 1.2137 * 0.0713], rtol=1e-6)


def test_its_uneven_floats_are_made_as_in_the_source_where_anything_else_reads_them():
    after = rewritten(recognise_quantize, module(adaptive_sign, X))  # bit for bit
    assert operators(after)[-1] == "multiply"
