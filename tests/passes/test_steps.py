"""Step functions read off chains, against the same functions in NumPy at, before and behind every place where they change."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.ops.quantize import quantize_reference
from bnncc.passes.chains import Chains
from bnncc.passes.lines import LARGEST, NEARER, REACH
from bnncc.passes.recognise_quantize import Quantizer, quantizer_of
from bnncc.passes.rewrite import Graph, const
from bnncc.passes.steps import StepAnalysis, Steps, previous_float

from .programs import module
from .random_chains import random_chain

C = 5
GAMMA = np.array([1.5, -0.75, 0.0, 1e-20, -3e8], np.float32)
BETA = np.array([0.3, 0.1, -0.25, 1e-21, 7.0], np.float32)
SLOPE = np.array([0.25, -0.5, 0.0, 1.0, -3.0], np.float32)
f32 = np.float32


def steps(build, shape=(2, C)) -> Steps | None:
    """Analyse the chain from the one parameter to the result."""
    graph = Graph(module(build, (shape, "float32")))
    return StepAnalysis(Chains(graph), graph.params[0]).steps_of(graph.outputs[0])


def around(breaks: np.ndarray) -> np.ndarray:
    """Return every break with its neighbours, and numbers far from any, shape (points, channels)."""
    finite = np.where(np.isfinite(breaks), breaks, 0).reshape(len(breaks), breaks.shape[-1]).astype(np.float32)
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal(100) * scale for scale in (3, 1e9, 1e-30)]
    far = np.concatenate([*drawn, [0.0, -0.0, 1e-45, -1e-45, LARGEST, -LARGEST]])
    far = np.repeat(far.astype(np.float32)[:, None], finite.shape[1], 1)
    return np.concatenate([finite, np.nextafter(finite, f32(-np.inf)), np.nextafter(finite, f32(np.inf)), far])


def looked_up(s: Steps, x: np.ndarray) -> np.ndarray:
    """Evaluate a step function at points (points, channels)."""
    breaks = s.breaks.reshape(len(s.breaks), s.breaks.shape[-1])
    piece = (breaks[None] <= x[:, None]).sum(1)
    values = s.values.reshape(len(s.values), -1)
    return np.take_along_axis(np.broadcast_to(values, (len(values), x.shape[1])), piece, 0)


def real(q: Quantizer, x: np.ndarray) -> np.ndarray:
    """Quantize and dequantize."""
    codes = quantize_reference(q, x[:, None], q.thresholds, q.flip)
    return (codes * q.scale + q.offset).astype(np.float32)[:, 0]


def exact(build, function) -> Steps:
    """Assert that the chain is a step function, the very one that `function` is, and return it."""
    s = steps(build)
    assert s is not None
    x = np.broadcast_to(around(s.breaks), (len(around(s.breaks)), C))
    with np.errstate(all="ignore"):
        want = function(x)
    np.testing.assert_array_equal(looked_up(s, x), want.astype(np.float32))
    return s


def affine(x):
    return op.add(op.multiply(x, const(GAMMA)), const(BETA))


def numpy_affine(x):
    return x * GAMMA + BETA


TWO_VALUED = {
    "greater": (lambda x: op.greater(x, const(f32(0))), lambda x: x > 0),
    "greater_equal": (lambda x: op.greater_equal(x, const(f32(0))), lambda x: x >= 0),
    "less": (lambda x: op.less(x, const(f32(0))), lambda x: x < 0),
    "less_equal": (lambda x: op.less_equal(x, const(f32(0))), lambda x: x <= 0),
    "the constant on the left of >": (lambda x: op.greater(const(f32(0.1)), x), lambda x: f32(0.1) > x),
    "the constant on the left of >=": (lambda x: op.greater_equal(const(f32(0.1)), x), lambda x: f32(0.1) >= x),
    "the constant on the left of <": (lambda x: op.less(const(f32(0.1)), x), lambda x: f32(0.1) < x),
    "the constant on the left of <=": (lambda x: op.less_equal(const(f32(0.1)), x), lambda x: f32(0.1) <= x),
    "BatchNorm": (lambda x: op.greater_equal(affine(x), const(f32(0))), lambda x: numpy_affine(x) >= 0),
    "BatchNorm, strict": (lambda x: op.greater(affine(x), const(f32(0))), lambda x: numpy_affine(x) > 0),
    "BatchNorm as mean and deviation": (
        lambda x: op.less(op.add(op.multiply(op.divide(op.subtract(x, const(BETA)), const(SLOPE + 4)), const(GAMMA)), const(f32(0.125))), const(f32(0))),
        lambda x: (x - BETA) / (SLOPE + 4) * GAMMA + f32(0.125) < 0,
    ),
    "negated": (lambda x: op.greater(op.negative(affine(x)), const(f32(0.5))), lambda x: -numpy_affine(x) > 0.5),
    "where": (
        lambda x: op.where(op.less(x, const(BETA)), const(f32(-1)), const(f32(1))),
        lambda x: np.where(x < BETA, -1, 1),
    ),
    "where of clamped": (
        lambda x: op.where(op.greater_equal(op.clip(affine(x), -1, 1), const(f32(0.75))), const(f32(2)), const(f32(-2))),
        lambda x: np.where(np.clip(numpy_affine(x), -1, 1) >= f32(0.75), 2, -2),
    ),
    "two times a boolean less one": (
        lambda x: op.subtract(op.multiply(op.astype(op.greater_equal(affine(x), const(f32(0))), "float32"), const(f32(2))), const(f32(1))),
        lambda x: (numpy_affine(x) >= 0) * f32(2) - f32(1),
    ),
    "not": (lambda x: op.logical_not(op.greater(x, const(BETA))), lambda x: ~(x > BETA)),
    "sign of a sign plus a half": (lambda x: op.sign(op.add(op.sign(x), const(f32(0.5)))), lambda x: np.sign(np.sign(x) + f32(0.5))),
    "sign of a rectified number less one": (
        lambda x: op.greater(op.subtract(op.nn.relu(affine(x)), const(f32(1))), const(f32(0))),
        lambda x: np.maximum(numpy_affine(x), 0) - 1 > 0,
    ),
    "rounding of a unit clamp": (lambda x: op.round(op.clip(affine(x), 0, 1)), lambda x: np.round(np.clip(numpy_affine(x), f32(0), f32(1)))),
    "floor of a half more": (lambda x: op.floor(op.clip(op.add(x, const(f32(0.5))), 0, 1)), lambda x: np.floor(np.clip(x + f32(0.5), 0, 1))),
    "ceil": (lambda x: op.ceil(op.clip(x, 0, 1)), lambda x: np.ceil(np.clip(x, 0, 1))),
    "minimum and maximum with constants": (
        lambda x: op.greater(op.maximum(op.minimum(x, const(BETA)), const(f32(-1))), const(f32(-0.5))),
        lambda x: np.maximum(np.minimum(x, BETA), -1) > -0.5,
    ),
    "tanh": (lambda x: op.greater_equal(op.tanh(x), const(f32(0.5))), lambda x: np.tanh(x) >= 0.5),
    "prelu of positive slope": (
        lambda x: op.greater(op.nn.prelu(x, const(np.abs(SLOPE)), 1), const(f32(-0.125))),
        lambda x: np.where(x >= 0, x, x * np.abs(SLOPE)) > -0.125,
    ),
    "leakyrelu": (lambda x: op.greater(op.nn.leakyrelu(x, 0.1), const(f32(-0.25))), lambda x: np.where(x >= 0, x, x * f32(0.1)) > -0.25),
    "a quantizer": (
        lambda x: bnn.quantize(x, const(np.stack([BETA])), const(np.sign(SLOPE + f32(0.01)).astype(np.int8))),
        lambda x: np.where(np.where(SLOPE >= 0, x >= BETA, x <= BETA), 1, -1),
    ),
    "an equal choice of a boolean": (
        lambda x: op.astype(op.logical_or(op.greater(x, const(f32(1))), op.greater(x, const(f32(3)))), "float32"),
        lambda x: x > 1,
    ),
}

THREE_VALUED = {
    "sign": (op.sign, np.sign),
    "sign of BatchNorm": (lambda x: op.sign(affine(x)), lambda x: np.sign(numpy_affine(x))),
    "twice a sign": (lambda x: op.multiply(op.sign(affine(x)), const(f32(2))), lambda x: 2 * np.sign(numpy_affine(x))),
    "rounding of a clamp": (lambda x: op.round(op.clip(x, -1, 1)), lambda x: np.round(np.clip(x, -1, 1))),
    "sign of what some channels never have above 0": (
        lambda x: op.sign(op.minimum(affine(x), const(np.array([1, 0, 1, 0, 0], np.float32)))),
        lambda x: np.sign(np.minimum(numpy_affine(x), np.array([1, 0, 1, 0, 0], np.float32))),
    ),
    "ternary by two comparisons": (
        lambda x: op.subtract(op.astype(op.greater(x, const(f32(0.5))), "float32"), op.astype(op.less(x, const(f32(-0.5))), "float32")),
        lambda x: (x > 0.5) * f32(1) - (x < -0.5),
    ),
}

NOT_MONOTONE = {
    "absolute value": (lambda x: op.greater(op.abs(x), const(f32(1))), lambda x: np.abs(x) > 1),
    "equality": (lambda x: op.equal(x, const(f32(0.5))), lambda x: x == 0.5),
    "inequality": (lambda x: op.not_equal(x, const(BETA)), lambda x: x != BETA),
    "a boolean of the number": (lambda x: op.astype(x, "bool"), lambda x: x != 0),
    "prelu that turns over": (lambda x: op.greater(op.nn.prelu(x, const(SLOPE), 1), const(f32(0.5))), lambda x: np.where(x >= 0, x, x * SLOPE) > 0.5),
    "x times its sign": (lambda x: op.greater_equal(op.multiply(x, op.sign(x)), const(f32(2))), lambda x: np.abs(x) >= 2),
    "exclusive or": (lambda x: op.logical_xor(op.greater(x, const(f32(0))), op.greater(x, const(f32(1)))), lambda x: (x > 0) ^ (x > 1)),
}


@pytest.mark.parametrize("name", TWO_VALUED | THREE_VALUED | NOT_MONOTONE)
def test_breaks_are_the_very_numbers_at_which_the_chain_changes(name):
    exact(*(TWO_VALUED | THREE_VALUED | NOT_MONOTONE)[name])


@pytest.mark.parametrize("name", TWO_VALUED | THREE_VALUED)
def test_a_monotone_chain_of_few_levels_is_a_quantizer(name):
    build, function = (TWO_VALUED | THREE_VALUED)[name]
    s = steps(build)
    q = quantizer_of(s)
    assert q is not None
    x = np.broadcast_to(around(s.breaks), (len(around(s.breaks)), C))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(real(q, x), function(x).astype(np.float32))
    assert (q.step, len(q.thresholds)) == ((2, 1) if name in TWO_VALUED else (1, 2))


@pytest.mark.parametrize("name", NOT_MONOTONE)
def test_a_chain_that_turns_over_is_no_quantizer(name):
    assert quantizer_of(steps(NOT_MONOTONE[name][0])) is None


@pytest.mark.parametrize("levels", [4, 8, 16, 256])
def test_rounding_to_many_levels_is_a_step_function_and_no_quantizer(levels):
    n = f32(levels - 1)
    build = lambda x: op.divide(op.round(op.multiply(op.clip(x, 0, 1), const(n))), const(n))  # noqa: E731
    s = exact(build, lambda x: np.round(np.clip(x, 0, 1) * n) / n)
    assert len(s.breaks) == levels - 1 and quantizer_of(s) is None


ROUNDED_THEN_CLIPPED = {
    "clip": (lambda x: op.clip(op.round(affine(x)), -8, 7), lambda x: np.clip(np.round(numpy_affine(x)), -8, 7)),
    "bounds between two levels": (lambda x: op.clip(op.round(x), -2.5, 1.5), lambda x: np.clip(np.round(x), f32(-2.5), f32(1.5))),
    "maximum and minimum": (
        lambda x: op.minimum(op.maximum(op.floor(x), const(f32(-3))), const(f32(4))),
        lambda x: np.minimum(np.maximum(np.floor(x), f32(-3)), f32(4)),
    ),
    "one level": (lambda x: op.clip(op.round(x), 2, 2), lambda x: np.full_like(x, 2)),
}


@pytest.mark.parametrize("name", ROUNDED_THEN_CLIPPED)
def test_an_unbounded_rounding_that_is_clipped_is_a_step_function(name):
    exact(*ROUNDED_THEN_CLIPPED[name])


def test_more_levels_than_anybody_packs_are_not_followed():
    assert steps(lambda x: op.round(op.multiply(op.clip(x, 0, 1), const(f32(4000))))) is None


@pytest.mark.parametrize(
    "build",
    [lambda x: x, affine, op.nn.relu, lambda x: op.multiply(x, op.sign(x)), lambda x: op.multiply(x, x), op.round, lambda x: op.clip(x, -1, 1)],
    ids=["nothing", "affine", "relu", "x * sign(x)", "square", "unbounded rounding", "clip"],
)
def test_what_is_not_piecewise_constant_is_no_step_function(build):
    assert steps(lambda x: op.add(build(x), const(f32(0)))) is None


OPPOSITE = {
    "a difference": lambda x: op.subtract(op.tanh(x), x),
    "a product with a negative number": lambda x: op.add(op.multiply(x, const(f32(-0.5))), op.clip(x, -1, 1)),
    "a negative number times": lambda x: op.add(op.multiply(const(f32(-0.5)), x), op.clip(x, -1, 1)),
    "a reciprocal": lambda x: op.divide(const(f32(1)), x),
    "a power": lambda x: op.subtract(op.power(x, const(f32(2))), const(f32(1))),
    "a choice by what is not known": lambda x: op.where(op.greater(op.tanh(x), x), const(f32(1)), const(f32(-1))),
    "a truth value that is not known": lambda x: op.negative(
        op.astype(op.logical_or(op.less(x, const(f32(-3))), op.greater(op.clip(x, -1, 1), op.multiply(x, const(f32(0.5))))), "float32")
    ),
    "a negative slope": lambda x: op.add(op.nn.prelu(x, const(np.full(C, -0.5, np.float32)), 1), op.clip(x, -1, 1)),
    "a negation": lambda x: op.maximum(op.negative(x), op.clip(x, -1, 1)),
    "an unknown share that cancels": lambda x: op.subtract(op.add(x, op.tanh(x)), x),
    "shares that nearly cancel": lambda x: op.subtract(op.multiply(x, const(f32(0.3))), op.multiply(op.multiply(x, const(f32(0.1))), const(f32(3)))),
    "what cancels, and the number again": lambda x: op.add(op.subtract(op.abs(x), op.abs(op.subtract(x, const(f32(1))))), op.multiply(x, const(f32(1e-6)))),
}


@pytest.mark.parametrize("name", OPPOSITE)
def test_what_moves_in_opposite_directions_is_not_guessed(name):
    assert steps(lambda x: op.greater(OPPOSITE[name](x), const(f32(-0.25)))) is None


A = np.array([1.7, 0.3, 6.0, 2.3, 1.1], np.float32)
LEVELS = {k: f32(2**k - 1) for k in (1, 2, 4, 8)}


CANCELLING = {
    "PACT's clip by absolute values": (
        lambda x: op.multiply(op.add(op.subtract(op.abs(x), op.abs(op.subtract(x, const(A)))), const(A)), const(f32(0.5))),
        lambda x: f32(0.5) * (np.abs(x) - np.abs(x - A) + A),
    ),
    "of both signs": (
        lambda x: op.multiply(op.subtract(op.abs(op.subtract(op.negative(x), const(A))), op.abs(op.subtract(x, const(A)))), const(f32(0.5))),
        lambda x: f32(0.5) * (np.abs(-x - A) - np.abs(x - A)),
    ),
    "by what a ReLU lets through": (
        lambda x: op.subtract(op.nn.relu(x), op.nn.relu(op.subtract(x, const(A)))),
        lambda x: np.maximum(x, 0) - np.maximum(x - A, 0),
    ),
    "behind BatchNorm": (
        lambda x: (lambda y: op.multiply(op.add(op.subtract(op.abs(y), op.abs(op.subtract(y, const(A)))), const(A)), const(f32(0.5))))(
            op.add(op.multiply(x, const(SLOPE)), const(BETA))
        ),
        lambda x: f32(0.5) * (np.abs(x * SLOPE + BETA) - np.abs(x * SLOPE + BETA - A) + A),
    ),
}


@pytest.mark.parametrize("bits", LEVELS)
@pytest.mark.parametrize("name", CANCELLING)
def test_a_clip_in_which_the_number_cancels_is_followed_through_its_rounding(name, bits):
    build, function = CANCELLING[name]
    scale = LEVELS[bits] / A
    s = steps(lambda x: op.divide(op.round(op.multiply(build(x), const(scale))), const(scale)))
    assert s is not None
    breaks = s.breaks.reshape(-1, C)
    assert np.isfinite(breaks).sum(0).max() == (2 * LEVELS[bits] if "both" in name else LEVELS[bits])
    finite = np.where(np.isfinite(breaks), breaks, 0)
    rng = np.random.default_rng(0)
    far = np.abs(finite).max(0) * REACH * NEARER[-1] * rng.uniform(-1, 1, (200, C)) ** 3
    x = np.concatenate([finite, np.nextafter(finite, f32(-np.inf)), np.nextafter(finite, f32(np.inf)), far.astype(np.float32)])
    np.testing.assert_array_equal(looked_up(s, x), np.round(function(x) * scale) / scale)


def test_a_flat_piece_whose_rounding_may_decide_is_not_guessed():
    build, _ = CANCELLING["PACT's clip by absolute values"]
    assert steps(lambda x: op.round(op.multiply(build(x), const(f32(0.5) / A)))) is None


def test_what_cancels_exactly_is_constant_however_far_out():
    s = exact(lambda x: op.greater(op.subtract(op.abs(x), op.clip(x, 0, 1)), const(f32(-0.25))), lambda x: np.abs(x) - np.clip(x, 0, 1) > -0.25)
    assert len(s.breaks) == 0
    s = exact(lambda x: op.greater(op.subtract(op.abs(x), x), const(f32(1))), lambda x: np.abs(x) - x > 1)
    assert s.breaks.ravel()[0] > -1


def test_a_dead_batchnorm_is_constant_in_its_channel():
    s = steps(lambda x: op.greater_equal(affine(x), const(f32(0))))
    assert not np.isfinite(s.breaks.reshape(-1, C)[:, 2]).any() and not s.values.reshape(-1, C)[:, 2].any()


def test_channels_of_their_own_levels_are_a_quantizer_with_their_own_scale():
    low, high = np.array([-1, -2, 0, 1, 5], np.float32), np.array([1, 3, 4, 2, 7], np.float32)
    build = lambda x: op.where(op.greater(x, const(BETA)), const(high), const(low))  # noqa: E731
    s = exact(build, lambda x: np.where(x > BETA, high, low))
    q = quantizer_of(s)
    np.testing.assert_array_equal(np.ravel(q.offset - q.scale), low)
    np.testing.assert_array_equal(np.ravel(q.offset + q.scale), high)


def test_values_that_are_not_finite_are_no_quantizer():
    assert quantizer_of(Steps(np.zeros((1, 1), np.float32), np.array([[0.0], [np.inf]], np.float32))) is None


def test_three_unevenly_spaced_levels_are_no_quantizer():
    assert quantizer_of(Steps(np.array([[0.0], [1.0]], np.float32), np.array([[0.0], [1.0], [3.0]], np.float32))) is None


def test_one_value_alone_is_no_quantizer():
    assert quantizer_of(Steps(np.zeros((0, 1), np.float32), np.ones((1, 1), np.float32))) is None


@pytest.mark.parametrize("x", [1.0, -1.0, 1e-45, 3e38, -1e-45])
def test_the_previous_float_is_numpy_s(x):
    assert previous_float(np.array([x], np.float32))[0] == np.nextafter(f32(x), f32(-np.inf))


def test_below_zero_comes_minus_zero():
    below = previous_float(np.zeros(1, np.float32))[0]
    assert below == 0 and np.signbit(below)


def test_a_chain_may_start_in_the_middle():
    graph = Graph(module(lambda x: op.sign(op.abs(x)), ((C,), "float32")))
    middle = graph.bindings[0].var
    s = StepAnalysis(Chains(graph), middle).steps_of(graph.outputs[0])
    assert [float(v) for v in s.values.ravel()] == [-1, 0, 1]


@pytest.mark.parametrize("seed", range(150))
def test_random_chains(seed):
    build, function, ends_in_levels = random_chain(seed, C)
    s = steps(build)
    if s is None:
        return  # not being sure is allowed; how often is counted below
    x = np.broadcast_to(around(s.breaks), (len(around(s.breaks)), C))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(looked_up(s, x), function(x).astype(np.float32))


def test_most_random_chains_that_end_in_levels_are_understood():
    chains = [random_chain(seed, C) for seed in range(60)]
    understood = [steps(build) is not None for build, _, levels in chains if levels]
    assert sum(understood) > 0.6 * len(understood) > 10
