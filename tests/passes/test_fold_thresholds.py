"""Folds of chains behind accumulators, compared with the chains themselves on every value that the accumulators can take."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes import fold_thresholds as module_under_test
from bnncc.passes.chains import Chains
from bnncc.passes.code_range import CodeRange
from bnncc.passes.context import PassContext
from bnncc.passes.fold_thresholds import accumulator_values, fold_thresholds
from bnncc.passes.integer_steps import NEVER, bisect_integers, integer_thresholds
from bnncc.passes.rewrite import Graph, const

from .programs import binarized, bindings, module, operators, rewritten, signs, unchanged

f32 = np.float32
rng = np.random.default_rng(3)
W = signs(rng, 6, 12)  # six channels of twelve weights: accumulators are even
GAMMA = np.array([0.5, -0.25, 0.0, 3.0, -1e-6, 1.0], np.float32)
BETA = np.array([1.0, 0.5, 0.0, -3.0, 2e-6, 100.0], np.float32)
MEAN = np.array([2.0, -2.0, 1.0, 0.1, 0.0, -4.0], np.float32)


def every_accumulator(weights: np.ndarray) -> np.ndarray:
    """Return inputs whose dot products with each row of weights take every reachable value."""
    _, k = weights.shape
    flips = np.where(np.arange(k) < np.arange(k + 1)[:, None], -1, 1).astype(np.int8)
    return np.concatenate([row * flips for row in weights])


def quantized(x, thresholds=0.0, flip=1, ternary=False):
    t = np.asarray([thresholds, np.nextafter(f32(thresholds), f32(np.inf))] if ternary else [thresholds], np.float32)
    return bnn.quantize(x, const(t), const(np.asarray(flip, np.int8)), -1, 1 if ternary else 2)


def dense(chain, weights=W):
    """Return codes -> accumulators -> float chain -> codes, and inputs that reach every accumulator."""
    x = every_accumulator(weights)
    build = lambda c: chain(op.astype(bnn.dense(c, const(weights)), "float32"))  # noqa: E731
    return module(build, (x.shape, "int8")), x


def folded(chain, weights=W, ctx=None) -> tvm.relax.Call:
    """Fold, compare on every accumulator, and return the quantizer that is left right behind the accumulator."""
    mod, x = dense(chain, weights)
    after = rewritten(fold_thresholds, mod, ctx, x)
    assert operators(after) == ["bnn.dense", "bnn.quantize"]
    (call,) = bindings(after, "bnn.quantize")
    assert call.args[1].value.numpy().dtype == np.int32
    return call


def batchnorm(y):
    return op.add(op.multiply(op.subtract(y, const(MEAN)), const(GAMMA)), const(BETA))


def test_scales_in_front_of_a_quantizer_are_in_its_integer_thresholds():
    weights, gamma, t = np.ones((2, 3), np.int8), np.array([0.5, -0.5], np.float32), np.array([0.5], np.float32)
    one = np.int8(1)

    @I.ir_module
    class Before:
        @R.function
        def main(c: R.Tensor((4, 3), "int8")):
            with R.dataflow():
                n = R.bnn.dense(c, R.const(weights, "int8"))
                f = R.astype(n, "float32")
                y = R.multiply(f, R.const(gamma))
                q = R.bnn.quantize(y, R.const(t), R.const(one, "int8"))
                R.output(q)
            return q

    thresholds, flip = np.array([[1, -1]], np.int32), np.array([1, -1], np.int8)

    @I.ir_module
    class Expected:
        @R.function
        def main(c: R.Tensor((4, 3), "int8")):
            with R.dataflow():
                n = R.bnn.dense(c, R.const(weights, "int8"))
                q = R.bnn.quantize(n, R.const(thresholds, "int32"), R.const(flip, "int8"))
                R.output(q)
            return q

    tvm.ir.assert_structural_equal(rewritten(fold_thresholds, Before), Expected)


CHAINS = {
    "nothing but a cast": lambda y: quantized(y),
    "BatchNorm of negative, zero and tiny scale": lambda y: quantized(batchnorm(y)),
    "a tie at every threshold": lambda y: quantized(op.add(y, const(np.arange(-6, 6, 2, dtype=np.float32)))),
    "a falling quantizer": lambda y: quantized(batchnorm(y), 0.25, -1),
    "directions by channel": lambda y: quantized(batchnorm(y), 0.25, [1, -1, 1, -1, 1, -1]),
    "ReLU": lambda y: quantized(op.nn.relu(batchnorm(y)), 0.5),
    "hardtanh": lambda y: quantized(op.clip(batchnorm(y), -1, 1), 0.5),
    "PReLU": lambda y: quantized(op.nn.prelu(batchnorm(y), const(np.array([0.25, 0.5, 0, 1, 0.1, 2], np.float32)), 1), -0.5),
    "shifted PReLU": lambda y: quantized(op.add(op.nn.prelu(op.subtract(y, const(MEAN)), const(np.full(6, 0.25, np.float32)), 1), const(BETA))),
    "tanh": lambda y: quantized(op.tanh(batchnorm(y)), 0.25),
    "a quotient": lambda y: quantized(op.divide(batchnorm(y), const(np.array([3, -7, 1, 2, -1, 0.1], np.float32)))),
    "many thresholds": lambda y: bnn.quantize(
        batchnorm(y), const(np.array([-1, 0.5, 2], np.float32)), const(np.int8(1)), 0, 1
    ),
    "thresholds by channel": lambda y: bnn.quantize(y, const(BETA[None]), const(np.array([1, 1, -1, -1, 1, 1], np.int8)), -1, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_fold_equals_the_chain_on_every_accumulator(name):
    folded(CHAINS[name])


@pytest.mark.parametrize("largest_tried", [0, 1 << 20], ids=["bisected", "tried"])
@pytest.mark.parametrize("seed", range(40))
def test_random_batchnorms_with_ties(seed, largest_tried, monkeypatch):
    monkeypatch.setattr(module_under_test, "_CHEAP_TABLE", largest_tried)
    draw = np.random.default_rng(seed)
    weights = signs(draw, 4, int(draw.integers(1, 40)))
    a, b, c = ((draw.integers(-8, 9, 4) / f32(4)).astype(np.float32) for _ in range(3))
    folded(lambda y: quantized(op.add(op.multiply(op.add(y, const(a)), const(b)), const(c)), 0.25, draw.choice([-1, 1], 4)), weights)


@pytest.mark.parametrize("bias, code", [(1000, 1), (-1000, -1)])
def test_a_channel_that_never_changes_has_a_threshold_that_is_never_reached(bias, code):
    call = folded(lambda y: quantized(op.add(y, const(f32(bias)))))
    assert set(call.args[1].value.numpy().ravel()) == {-NEVER * code}


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("channels", [1, 6])
def test_one_threshold_where_all_channels_agree(flip, channels):
    call = folded(lambda y: quantized(op.multiply(y, const(np.full(channels, 0.5, np.float32))), 1.0, flip))
    assert set(call.args[1].value.numpy().ravel()) == {2}


NOT_MONOTONE = {
    "a PReLU of negative slope": lambda y: quantized(op.nn.prelu(y, const(np.full(6, -0.5, np.float32)), 1), 2.0),
    "an absolute value in one channel": lambda y: quantized(op.maximum(y, op.multiply(y, const(np.array([1, 1, 1, 1, 1, -1], np.float32)))), 3.0),
}


@pytest.mark.parametrize("name", NOT_MONOTONE)
def test_a_chain_that_turns_over_stays_and_a_warning_says_so(name):
    mod, _ = dense(NOT_MONOTONE[name])
    ctx = PassContext()
    unchanged(fold_thresholds, mod, ctx)
    assert len(ctx.warnings) == 1 and "not monotone" in ctx.warnings[0]


def test_a_chain_that_turns_over_beyond_the_accumulator_is_folded():
    folded(lambda y: quantized(op.nn.prelu(op.add(y, const(f32(12))), const(np.full(6, -0.5, np.float32)), 1), 2.0))


def test_a_chain_that_is_neither_tried_nor_bisected_stays_and_a_warning_says_so(monkeypatch):
    monkeypatch.setattr(module_under_test, "_LARGEST_TABLE", 5)
    ctx = PassContext()
    unchanged(fold_thresholds, dense(lambda y: quantized(op.multiply(y, op.sigmoid(y))))[0], ctx)
    assert len(ctx.warnings) == 1 and "too many values" in ctx.warnings[0]


@pytest.mark.parametrize("name", CHAINS)
def test_bisection_finds_the_thresholds_that_trying_all_values_finds(name, monkeypatch):
    tried = folded(CHAINS[name])
    monkeypatch.setattr(module_under_test, "_CHEAP_TABLE", 0)
    monkeypatch.setattr(module_under_test, "accumulator_values", lambda *_: pytest.fail("all values were tried"))
    bisected = folded(CHAINS[name])
    assert (bisected.attrs.lo, bisected.attrs.step) == (tried.attrs.lo, tried.attrs.step)


@pytest.mark.parametrize(
    "build",
    [
        lambda c, x: quantized(op.multiply(op.add(op.astype(bnn.dense(c, const(W)), "float32"), x), const(f32(2)))),
        lambda c, x: quantized(op.multiply(x, const(f32(2)))),
        lambda c, x: quantized(op.nn.softmax(op.astype(bnn.dense(c, const(W)), "float32"))),
    ],
    ids=["a shortcut", "no accumulator", "something that is not elementwise"],
)
def test_what_is_no_function_of_one_accumulator_stays(build):
    unchanged(fold_thresholds, module(build, ((5, 12), "int8"), ((5, 6), "float32")))


def test_running_twice_changes_nothing_more():
    unchanged(fold_thresholds, fold_thresholds(dense(CHAINS["ReLU"])[0], PassContext()))


def levels(call) -> tuple[int, int]:
    return call.attrs.step, len(call.args[1].value.numpy())


@pytest.mark.parametrize("k, bias, expected", [(11, 0, (2, 1)), (12, 0, (1, 2)), (12, 1, (2, 1)), (12, 0.5, (2, 1)), (11, 1, (1, 2)), (11, 100, (2, 1))])
def test_a_plain_sign_that_no_accumulator_makes_0_is_two_valued(k, bias, expected):
    """Dot products of k signs have the parity of k."""
    assert levels(folded(lambda y: quantized(op.add(y, const(f32(bias))), ternary=True), W[:, :k])) == expected


def conv(c, padding, pad_code, weights):
    y = op.astype(bnn.conv2d(c, const(weights), padding=padding, pad_code=pad_code), "float32")
    return quantized(y, ternary=True)


@pytest.mark.parametrize("padding, pad_code, expected", [((0, 0, 0, 0), 0, (2, 1)), ((1, 1, 1, 1), 1, (2, 1)), ((1, 1, 1, 1), 0, (1, 2))])
def test_zeros_of_the_padding_break_the_parity(padding, pad_code, expected):
    weights = signs(rng, 5, 3, 3, 1)
    after = rewritten(fold_thresholds, module(lambda c: conv(c, padding, pad_code, weights), ((4, 6, 6, 1), "int8")))
    assert levels(bindings(after, "bnn.quantize")[0]) == expected


INPUTS = {
    "a plain sign": (lambda x: binarized(x, ternary=True), (1, 2)),
    "a plain sign that was moved": (lambda x: op.strided_slice(binarized(x, ternary=True), [3], [0], [1]), (1, 2)),
    "a pad of zeros": (lambda x: bnn.pad(binarized(x), (1, 1, 1, 1), "constant", 0), (1, 2)),
    "a pad of ones": (lambda x: bnn.pad(binarized(x), (1, 1, 1, 1), "constant", 1), (2, 1)),
    "signs": (binarized, (2, 1)),
    "logic of signs": (lambda x: bnn.logic(binarized(x), binarized(op.negative(x)), table=[1, -1, -1, 1]), (2, 1)),
    "logic of plain signs": (
        lambda x: bnn.logic(binarized(x, ternary=True), binarized(x), table=[1, 0, -1, -1, 0, 1], levels=(3, 2)), (1, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_zeros_among_the_codes_break_the_parity(name):
    make, expected = INPUTS[name]
    weights = signs(rng, 5, 3, 3, 1)
    after = rewritten(fold_thresholds, module(lambda x: conv(make(x), (0, 0, 0, 0), 0, weights), ((4, 6, 6, 1), "float32")))
    assert levels(bindings(after, "bnn.quantize")[-1]) == expected


@pytest.mark.parametrize(
    "k, codes, expected",
    [
        (4, CodeRange(-1, 1, 2), [-4, -2, 0, 2, 4]),
        (3, CodeRange(-1, 1, 2), [-3, -1, 1, 3]),
        (2, CodeRange(-1, 1, 1), [-2, -1, 0, 1, 2]),
        (2, CodeRange(0, 3, 1), [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_the_values_of_an_accumulator(k, codes, expected):
    call = bindings(module(lambda c: bnn.dense(c, const(np.ones((1, k), np.int8))), ((1, k), "int8")), "bnn.dense")[0]
    assert accumulator_values(call, codes).tolist() == expected


def test_thresholds_may_vary_over_the_map():
    plane = rng.integers(-3, 4, (1, 4, 4, 5)).astype(np.float32)
    weights = signs(rng, 5, 3, 3, 2)
    build = lambda c: quantized(op.add(op.astype(bnn.conv2d(c, const(weights)), "float32"), const(plane)))  # noqa: E731
    after = rewritten(fold_thresholds, module(build, ((3, 6, 6, 2), "int8")))
    assert bindings(after, "bnn.quantize")[0].args[1].value.numpy().shape == (1, 4, 4, 5)


@pytest.mark.parametrize(
    "weights", [rng.integers(-7, 8, (6, 3, 3, 4)), np.zeros((6, 3, 3, 4), int), rng.integers(0, 128, (6, 3, 3, 4))], ids=["4 bits", "none", "8 bits"]
)
@pytest.mark.parametrize("padding, pad_code", [((0, 0, 0, 0), 0), ((1, 1, 1, 1), 0), ((1, 0, 1, 2), -5)])
def test_chains_behind_integer_layers_become_thresholds(weights, padding, pad_code):
    levels_in, levels_out = np.linspace(-2, 2, 7).astype(f32), np.linspace(-3, 3, 5).astype(f32)

    def build(x):
        code = bnn.quantize(x, const(levels_in), const(np.int8(1)), 0, 1)
        n = bnn.conv2d(code, const(weights.astype(np.int8)), padding=padding, pad_code=pad_code)
        y = op.add(op.multiply(op.astype(n, "float32"), const(GAMMA)), const(f32(0.3)))
        return bnn.quantize(y, const(levels_out), const(np.int8(1)), -2, 1)

    after = rewritten(fold_thresholds, module(build, ((2, 7, 6, 4), "float32")))
    assert operators(after) == ["bnn.quantize", "bnn.conv2d", "bnn.quantize"]
    assert bindings(after, "bnn.quantize")[1].args[1].value.numpy().dtype == np.int32


def test_sums_far_beyond_what_float32_tells_apart_have_exact_thresholds():
    """Sums up to 2^30: several integers share a float32, and the threshold is the first that rounds to it."""
    gamma, t = f32([1, -1, 0.5, 3]), f32([20_000_001, 555_555_555, 40_000_002, 1e9])
    sums = np.concatenate([np.arange(-300, 301) + int(v / abs(g)) * int(np.sign(g)) for g, v in zip(gamma, t)]).astype(np.int32)
    chain = lambda y: bnn.quantize(op.multiply(op.astype(y, "float32"), const(gamma)), const(t[None]), const(np.int8(1)))  # noqa: E731
    mod = module(chain, ((len(sums), 4), "int32"))
    graph = Graph(mod)
    found = bisect_integers(Chains(graph), graph.outputs[0], graph.params[0], -(1 << 30), 1 << 30)
    thresholds, flip = integer_thresholds(found, -1, 2, 1)
    want = np.where(sums[:, None].astype(np.float32) * gamma >= t, 1, -1)
    assert {-1, 1} == set(want[:, 0]) == set(want[:, 3])
    np.testing.assert_array_equal(np.where(sums[:, None] * flip >= thresholds * flip, 1, -1), want)


def test_sums_scaled_in_double_have_the_thresholds_of_double():
    scale, bias = np.array([0.1, 1 / 3, 1e-3, 0.7]), np.array([0.25, -1e3, 0, 1e6])
    at = np.array([12_345_678, -7_654_321, 999_999_999, 3])
    t = (at * scale + bias).astype(np.float32)

    def chain(n):
        wide = op.add(op.multiply(op.astype(n, "float64"), const(scale)), const(bias))
        return bnn.quantize(op.astype(wide, "float32"), const(t[None]), const(np.int8(1)))

    sums = (at + np.arange(-3000, 3001)[:, None]).astype(np.int32)
    graph = Graph(module(chain, (sums.shape, "int32")))
    found = bisect_integers(Chains(graph), graph.outputs[0], graph.params[0], -(1 << 30), 1 << 30)
    thresholds, flip = integer_thresholds(found, -1, 2, 1)
    want = np.where((sums * scale + bias).astype(np.float32) >= t, 1, -1)
    assert np.all(np.ptp(want, axis=0) == 2)
    np.testing.assert_array_equal(np.where(sums * flip >= thresholds * flip, 1, -1), want)


def test_eight_bits_by_eight_bits_have_integer_thresholds():
    codes = lambda x: op.astype(op.round(op.clip(x, 0, 255)), "uint8")  # noqa: E731
    weights = np.full((2, 4096), 127, np.int8)

    def build(x):
        y = op.multiply(op.astype(bnn.dense(codes(x), const(weights)), "float32"), const(f32([1, -0.5])))
        return bnn.quantize(op.add(y, const(f32([-3e7, 2e7]))), const(np.zeros(1, f32)), const(np.int8(1)))

    x = np.repeat(np.linspace(0, 255, 60, dtype=f32)[:, None], 4096, 1)
    after = rewritten(fold_thresholds, module(build, ((60, 4096), "float32")), None, x)
    assert bindings(after, "bnn.quantize")[0].args[1].value.numpy().dtype == np.int32


def test_thresholds_fold_behind_bytes():
    def build(x):
        real = bnn.dequantize(x, const(np.float32(0.5)), const(np.float32(-3)))
        return bnn.quantize(op.multiply(real, const(np.array([1, -2], np.float32))), const(np.array([[1, 5]], np.float32)), const(np.array([1, -1], np.int8)))

    mod = module(build, ((256, 2), "uint8"))
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 2, axis=1)
    after = rewritten(fold_thresholds, mod, None, every)
    assert operators(after) == ["astype", "bnn.quantize"]
