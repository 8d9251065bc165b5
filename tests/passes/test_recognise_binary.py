from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn, is_bnn
from bnncc.passes.context import NodeInfo, PassContext
from bnncc.passes.recognise_binary import TOLERANCE, recognise_binary, two_valued
from bnncc.passes.rewrite import Graph, const

from .programs import binarized, bindings, module, operators, results, rewritten, signs, unchanged

CODES = ((2, 6, 5, 4), "int8")
rng = np.random.default_rng(1)
W = signs(rng, 3, 3, 4, 6).astype(np.float32)  # HWIO
SIGNS = np.ascontiguousarray(W.transpose(3, 0, 1, 2)).astype(np.int8)


def real(code, scale=1.0, offset=0.0):
    return bnn.dequantize(code, const(np.asarray(scale, np.float32)), const(np.asarray(offset, np.float32)))


def conv(x, weights, **attributes):
    return op.nn.conv2d(x, const(weights.astype(np.float32)), data_layout="NHWC", kernel_layout="HWIO", **attributes)


def layer(weights, scale=1.0, offset=0.0, **attributes):
    return module(lambda c: conv(real(c, scale, offset), weights, **attributes), CODES)


def why(mod, ctx=None) -> str:
    """Return the reason given for the one layer of a module, which has to stay in float."""
    ctx = ctx or PassContext()
    tvm.ir.assert_structural_equal(recognise_binary(mod, ctx), mod)
    (row,) = ctx.layers
    assert not row.bits
    return row.reason


def test_a_convolution_of_signs_is_an_integer_one():
    @I.ir_module
    class Before:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 4), "int8")):
            with R.dataflow():
                x = R.bnn.dequantize(c, R.const(1.0, "float32"), R.const(0.0, "float32"))
                y = R.nn.conv2d(x, R.const(W * 0.5, "float32"), data_layout="NHWC", kernel_layout="HWIO", padding=[1, 1, 1, 1])
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 4), "int8")):
            with R.dataflow():
                n = R.bnn.conv2d(c, R.const(SIGNS, "int8"), padding=[1, 1, 1, 1])
                f = R.astype(n, "float32")
                y = R.multiply(f, R.const(0.5, "float32"))
                R.output(y)
            return y

    tvm.ir.assert_structural_equal(rewritten(recognise_binary, Before), Expected)


SHAPES = [{}, {"strides": (2, 1)}, {"padding": (1, 0, 2, 1)}, {"dilation": (2, 1)}, {"strides": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 2)}]


@pytest.mark.parametrize("scale, offset", [(1, 0), (0.5, 0.5), (0.5, -0.5), (-1, 0), (2, 2)])
@pytest.mark.parametrize("attributes", SHAPES, ids=str)
def test_scale_and_offset_of_the_codes_are_pulled_out_exactly(attributes, scale, offset):
    gains = 2.0 ** np.arange(-3, 3)
    after = rewritten(recognise_binary, layer(W * gains, scale, offset, **attributes))
    (call,) = bindings(after, "bnn.conv2d")
    assert operators(after) == ["bnn.conv2d", "astype", *(["add"] if offset else []), "multiply"]
    assert call.attrs.pad_code == (-offset / scale if attributes.get("padding") else 0)


@pytest.mark.parametrize("groups", [2, 4])
def test_groups(groups):
    after = rewritten(recognise_binary, layer(W[:, :, : 4 // groups, :4], groups=groups))
    assert bindings(after, "bnn.conv2d")[0].attrs.groups == groups


@pytest.mark.parametrize("scale, offset", [(1, 0), (0.5, 0.5)])
def test_a_dense_layer_of_signs_is_an_integer_one(scale, offset):
    weights = signs(rng, 40, 7) * np.float32(0.25)
    after = rewritten(recognise_binary, module(lambda c: op.matmul(real(c, scale, offset), const(weights)), ((3, 40), "int8")))
    assert operators(after)[0] == "bnn.dense"
    np.testing.assert_array_equal(bindings(after, "bnn.dense")[0].args[1].value.numpy(), np.sign(weights.T))


def test_a_dead_filter_gives_exactly_nothing():
    gains = np.array([1, 0, 1, 1, 0, 1])
    ctx = PassContext()
    after = rewritten(recognise_binary, layer(W * gains), ctx)
    np.testing.assert_array_equal(bindings(after, "multiply")[0].args[1].value.numpy(), gains)
    assert "2 dead filters" in ctx.layers[0].reason


def test_batchnorm_folded_into_the_filters_leaves_each_its_own_scale():
    gains = np.array([0.3, -1.7, 1e-6, 2.5e4, -0.01, 1.0])
    after = rewritten(recognise_binary, layer(W * gains), tolerance=1e-5)
    np.testing.assert_array_equal(bindings(after, "multiply")[0].args[1].value.numpy(), np.abs(gains.astype(np.float32)))
    np.testing.assert_array_equal(bindings(after, "bnn.conv2d")[0].args[1].value.numpy(), SIGNS * np.sign(gains).astype(np.int8)[:, None, None, None])


@pytest.mark.parametrize("spread, taken", [(0.99, True), (-0.99, True), (1.01, False), (-1.01, False)])
def test_magnitudes_may_differ_by_the_tolerance_and_no_more(spread, taken):
    filters = signs(rng, 3, 9).astype(np.float32) * np.float32(0.7)
    filters[1, 4] *= 1 + spread * TOLERANCE
    assert isinstance(two_valued(filters), str) == (not taken)


def test_of_spread_magnitudes_the_scale_is_their_mean():
    filters = signs(rng, 1, 100) * (1 + rng.uniform(-4e-4, 4e-4, (1, 100))).astype(np.float32)
    found = two_valued(filters)
    np.testing.assert_allclose(found.scale, np.abs(filters).astype(np.float64).mean(1), rtol=1e-7)
    np.testing.assert_array_equal(found.signs, np.sign(filters))


def test_a_filter_of_one_weight_is_two_valued():
    found = two_valued(np.array([[3.0], [-2.0], [0.0]], np.float32))
    assert found.signs.ravel().tolist() == [1, -1, 1] and found.scale.tolist() == [3, 2, 0]


def count_bits(mod):
    """Count the binary convolutions that a layer becomes."""
    return sum(is_bnn(b.value, "conv2d") for b in Graph(recognise_binary(mod, PassContext())).bindings)


NO_SIGNS = {
    "real numbers": (rng.standard_normal((3, 3, 4, 6)), "weights are not two-valued (output channel 0: 36 distinct values)"),
    "three values": (W * (rng.random(W.shape) < 0.7), "weights are not two-valued (output channel 0: ternary: -c, 0, +c)"),
    "a tap of nothing in channel 3": (W * (np.arange(6) != 3) + W * (np.arange(6) == 3) * (np.arange(3) != 1)[:, None, None, None], "output channel 3"),
    "mostly nothing": (W * (np.arange(4)[:, None] == 0), "ternary"),
}


@pytest.mark.parametrize("name", NO_SIGNS)
def test_filters_of_other_values_are_no_signs(name):
    weights, reason = NO_SIGNS[name]
    assert reason in two_valued(np.moveaxis(np.asarray(weights, np.float32), 3, 0))
    if name == "real numbers":
        assert reason in why(layer(weights))
    else:  # three values are small integers, which LowerPlanes splits into two planes of signs
        (made,) = bindings(recognise_binary(layer(weights), PassContext()), "bnn.conv2d")
        np.testing.assert_array_equal(np.moveaxis(made.args[1].value.numpy(), 0, 3), weights)


def test_uneven_filters_are_signs_and_a_window_sum_rather_than_more_planes_of_integers():
    mod = layer(np.where(W > 0, 3, -1))
    assert count_bits(mod) == 2 and len(bindings(recognise_binary(mod, PassContext()), "bnn.conv2d")) == 2


def test_a_real_input_stays_in_float_and_a_warning_says_so():
    ctx = PassContext()
    assert why(module(lambda x: conv(x, W), (CODES[0], "float32")), ctx) == "weights are two-valued, but the input is real-valued"
    assert len(ctx.warnings) == 1 and "stays float" in ctx.warnings[0]


def test_a_box_filter_of_real_numbers_is_no_binary_layer_that_was_missed():
    ctx = PassContext()
    assert "all weights are equal" in why(module(lambda x: conv(x, np.full_like(W, 1 / 9)), (CODES[0], "float32")), ctx)
    assert not ctx.warnings


def test_real_filters_of_a_real_input_are_no_matter_of_warning():
    ctx = PassContext()
    why(module(lambda x: conv(x, rng.standard_normal(W.shape)), (CODES[0], "float32")), ctx)
    assert ctx.warnings == []


def test_an_input_of_more_levels_is_counted():
    mod = module(lambda x: conv(op.nn.relu(x), W), (CODES[0], "float32"))
    ctx = PassContext(levels={Graph(mod).bindings[0].var.name: 4})
    assert "the input takes 4 levels, more than bits hold" in why(mod, ctx)
    assert len(ctx.warnings) == 1


@pytest.mark.parametrize(
    "scale, offset, reason",
    [(np.ones(4), np.arange(4), "differ from channel to channel"), (np.sqrt([2, 3, 5, 7]), np.zeros(4), "differ from channel to channel"), (0, 1, "constant")],
)
def test_codes_of_other_values_stay_in_float(scale, offset, reason):
    assert reason in why(layer(W, scale, offset))


@pytest.mark.parametrize("scale, offset, pad", [(1, 0.5, -0.5), (0.5, 1.5, -3)])
def test_a_padding_that_is_no_code_becomes_a_constant_at_the_border(scale, offset, pad):
    mod = layer(W, scale, offset, padding=(1, 1, 1, 1))
    assert (0 - offset) / scale == pad and count_bits(mod) == 1
    rewritten(recognise_binary, mod)
    rewritten(recognise_binary, layer(W, scale, offset))  # without padding it does not matter


def test_weights_computed_at_run_time_stay_in_float():
    mod = module(
        lambda c, w: op.nn.conv2d(real(c), op.sign(w), data_layout="NHWC", kernel_layout="HWIO"), CODES, (W.shape, "float32")
    )
    assert why(mod) == "weights are computed at run time"


@pytest.mark.parametrize(
    "build, reason",
    [
        (lambda x, y: op.matmul(real(x), op.nn.relu(y)), "both operands are computed at run time"),
        (lambda x, y: op.matmul(op.expand_dims(real(x), 0), const(np.ones((40, 2), np.float32))), "a product of stacks of matrices"),
    ],
    ids=["two tensors", "a batch of matrices"],
)
def test_a_product_that_is_no_dense_layer_stays_in_float(build, reason):
    assert why(module(build, ((3, 40), "int8"), ((40, 5), "float32"))) == reason


def test_a_layer_is_reported_by_its_node():
    mod = layer(W, strides=(2, 1))
    out = Graph(mod).outputs[0].name
    ctx = PassContext(nodes={out: NodeInfo("conv7", "Conv", "", ("x", "w"), "y")})
    recognise_binary(mod, ctx)
    (row,) = ctx.layers
    assert (row.node, row.op, row.output, row.bits, row.detail) == ("conv7", "Conv", "y", True, "3x3")
    assert row.in_shape == CODES[0] and row.out_shape == (2, 2, 3, 6)
    assert row.macs == 2 * 2 * 3 * 6 * 36 and row.weight_bytes == W.size // 8


@pytest.mark.parametrize("ternary, kind", [(False, "two-valued input and weights"), (True, "input -1, 0, +1 (a plain Sign), two-valued weights")])
def test_the_report_tells_whether_the_input_has_a_zero(ternary, kind):
    ctx = PassContext()
    build = lambda x: conv(real(op.permute_dims(binarized(x, ternary), [0, 2, 1, 3])), W)  # noqa: E731
    rewritten(recognise_binary, module(build, (CODES[0], "float32")), ctx)
    assert ctx.layers[0].reason == kind


def test_other_operators_stay():
    unchanged(recognise_binary, module(lambda c: op.nn.avg_pool2d(real(c), (2, 2), layout="NHWC"), CODES))


def coded_layer(weights, scale=1.0, offset=0.0, lo=0, thresholds=7, **attributes):
    """Return a module of a quantizer to `thresholds` + 1 levels, a convolution and another quantizer."""
    limits = np.linspace(-2, 2, thresholds).astype(np.float32)

    def build(x):
        code = bnn.quantize(x, const(limits), const(np.int8(1)), lo, 1)
        return bnn.quantize(conv(real(code, scale, offset), weights, **attributes), const(limits), const(np.int8(1)), 0, 1)

    return module(build, (CODES[0], "float32"))


INTEGERS = rng.integers(-3, 4, W.shape)
INTEGERS[0, 0, 0] = 3


@pytest.mark.parametrize("weights, kind", [(INTEGERS, "3-bit weights"), (W, "1-bit weights"), (W * (rng.random(W.shape) < 0.5), "2-bit weights")])
@pytest.mark.parametrize("attributes", [{}, {"padding": (1, 0, 2, 1)}, {"strides": (2, 1)}], ids=str)
def test_small_integers_on_codes_of_several_levels_are_an_integer_layer(weights, kind, attributes):
    ctx = PassContext()
    after = rewritten(recognise_binary, coded_layer(weights * 0.25, 0.5, **attributes), ctx)
    assert len(bindings(after, "bnn.conv2d")) == 1
    (row,) = ctx.layers
    assert row.integer and not row.bits and row.reason == f"3-bit input, {kind}: integer arithmetic"


def test_padding_with_0_is_the_code_of_0():
    after = rewritten(recognise_binary, coded_layer(INTEGERS, 0.5, 1.5, padding=(1, 1, 1, 1)))
    assert bindings(after, "bnn.conv2d")[0].attrs.pad_code == -3


def test_padding_between_two_codes_stays_in_float():
    ctx = PassContext()
    mod = coded_layer(INTEGERS, 0.5, 0.25, padding=(1, 1, 1, 1))
    tvm.ir.assert_structural_equal(recognise_binary(mod, ctx), mod)
    assert ctx.layers[0].reason == "padding with 0 is -0.5 on the scale of the codes, which they do not hold" and not ctx.layers[0].integer


def test_a_layer_whose_result_stays_real_is_an_integer_layer():
    ctx = PassContext()
    build = lambda x: conv(real(bnn.quantize(x, const(np.arange(7, dtype=np.float32)), const(np.int8(1)), 0, 1)), INTEGERS)  # noqa: E731
    after = rewritten(recognise_binary, module(build, (CODES[0], "float32")), ctx)
    assert operators(after)[-2:] == ["astype", "multiply"] and len(bindings(after, "bnn.conv2d")) == 1
    assert ctx.layers[0].integer and ctx.layers[0].reason == "3-bit input, 3-bit weights: integer arithmetic"


def test_a_scale_of_more_digits_than_float32_holds_and_the_bias_are_rounded_once():
    bias = np.linspace(-40, 40, 6, dtype=np.float32)
    draw = np.random.default_rng(5)
    scale, step = np.float32(0.1), np.float32(1365 / 4096)
    build = lambda c: op.add(conv(real(c, scale), INTEGERS * step), const(bias))  # noqa: E731
    mod = module(build, ((40, 6, 5, 4), "uint8"))
    ctx = PassContext()
    ctx.unsigned_codes.add("x0")
    codes = draw.integers(0, 256, (40, 6, 5, 4)).astype(np.uint8)
    after = rewritten(recognise_binary, mod, ctx, codes, tolerance=1e-4)
    sums = bnn_sums(codes, INTEGERS)
    # scales as real numbers, and one rounding
    np.testing.assert_array_equal(results(after, (codes,))[0], (sums * (np.float64(scale) * np.float64(step)) + bias).astype(np.float32))


def bnn_sums(codes, weights) -> np.ndarray:
    """Return the sums of a 3x3 convolution of codes NHWC by integers HWIO, int64."""
    view = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int64), (3, 3), axis=(1, 2))
    return np.einsum("nyxcij,ijco->nyxo", view, weights)


def test_a_layer_whose_sums_32_bits_may_not_hold_stays_in_float():
    weights = np.full((140_000, 2), 127, np.float32)
    weights[0] = 1
    mod = module(
        lambda x: op.matmul(real(bnn.quantize(x, const(np.arange(7, dtype=np.float32)), const(np.int8(1)), 0, 1)), const(weights)), ((1, 140_000), "float32")
    )
    assert why(mod) == "sums of the codes by the weights as integers could leave 32 bits"


def test_real_filters_on_codes_of_several_levels_stay_in_float():
    ctx = PassContext()
    mod = coded_layer(rng.standard_normal(W.shape))
    tvm.ir.assert_structural_equal(recognise_binary(mod, ctx), mod)
    assert "distinct values" in ctx.layers[0].reason


def test_a_dense_layer_of_small_integers():
    weights = rng.integers(-7, 8, (8, 5)).astype(np.float32) * 0.5

    def build(x):
        code = bnn.quantize(x, const(np.linspace(-2, 2, 5, dtype=np.float32)), const(np.int8(1)), -2, 1)
        return op.astype(op.round(op.clip(op.matmul(real(code, 0.25), const(weights)), 0, 255)), "uint8")

    after = rewritten(recognise_binary, module(build, ((3, 8), "float32")))
    assert len(bindings(after, "bnn.dense")) == 1 and not bindings(after, "matmul")


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 1)])
def test_a_plain_sign_times_and_plus_numbers_meets_two_valued_filters_on_bits(padding):
    """AdaBin: codes -1, 0, +1 at a scale and an offset, so that 0 in the padding is no code; filters b - a and b + a."""
    weights = W * np.linspace(0.1, 0.4, 6, dtype=np.float32) + np.linspace(-0.2, 0.2, 6, dtype=np.float32)
    build = lambda x: conv(real(binarized(x, ternary=True), 1.25, 0.375), weights, padding=padding)  # noqa: E731
    ctx = PassContext()
    after = rewritten(recognise_binary, module(build, ((2, 6, 5, 4), "float32")), ctx, tolerance=1e-5)
    assert "nn.conv2d" not in operators(after) and ctx.layers[0].bits
    assert ctx.layers[0].reason.startswith("input -1, 0, +1 (a plain Sign), weights are two-valued")


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1)])
@pytest.mark.parametrize("scale", [[0.5, -0.5, -0.5, 0.5], [0.25, -0.5, 0.25, 0.5]])
@pytest.mark.parametrize("groups", [1, 2])
def test_scales_of_input_channels_are_folded_into_the_filters(groups, scale, padding):
    weights = W if groups == 1 else np.ascontiguousarray(W[:, :, :2])
    ctx = PassContext()
    after = rewritten(recognise_binary, layer(weights, np.float32(scale), padding=padding, groups=groups), ctx, tolerance=1e-5)
    assert "nn.conv2d" not in operators(after) and (ctx.layers[0].bits or ctx.layers[0].integer)


def test_scales_of_the_inputs_of_a_dense_layer_are_folded_into_the_filters():
    weights = const(signs(rng, 4, 7).astype(np.float32))
    mod = module(lambda c: op.matmul(real(c, [0.5, -0.5, 0.5, -0.5]), weights), ((3, 4), "int8"))
    assert "matmul" not in operators(rewritten(recognise_binary, mod))
