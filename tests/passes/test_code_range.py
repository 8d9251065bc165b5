from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.code_range import CodeRange, accumulator_bounds, code_range, runs_on_bits
from bnncc.passes.rewrite import Graph, const

from .programs import binarized, bindings, module

X = ((1, 4, 4, 2), "float32")
ONE = np.int8(1)


def several(x, lo=0, count=7, step=1):
    return bnn.quantize(x, const(np.arange(count, dtype=np.float32)), const(ONE), lo, step)


@pytest.mark.parametrize(
    "make, expected",
    [
        (binarized, CodeRange(-1, 1, 2)),
        (lambda x: binarized(x, ternary=True), CodeRange(-1, 1, 1)),
        (several, CodeRange(0, 7, 1)),
        (lambda x: several(x, -3, 3, 2), CodeRange(-3, 3, 2)),
        (lambda x: bnn.pad(binarized(x), (1, 1, 1, 1)), CodeRange(-1, 1, 1)),
        (lambda x: bnn.pad(several(x), (1, 1, 1, 1), "constant", -9), CodeRange(-9, 7, 1)),
        (lambda x: bnn.pad(binarized(x), (1, 1, 1, 1), "edge"), CodeRange(-1, 1, 2)),
        (lambda x: op.concat([binarized(x), several(x)], axis=3), CodeRange(-1, 7, 1)),
        (lambda x: op.astype(op.clip(x, -8, 7), "int8"), CodeRange(-8, 7, 1)),
        (lambda x: op.astype(x, "uint8"), CodeRange(0, 255, 1)),
    ],
)
def test_the_range_of_codes_is_that_of_their_quantizer(make, expected):
    graph = Graph(module(make, X))
    assert code_range(graph.outputs[0], graph.value) == expected


def test_codes_from_outside_are_signs():
    graph = Graph(module(lambda c: op.reshape(c, (8,)), ((2, 4), "int8")))
    assert code_range(graph.outputs[0], graph.value) == CodeRange(-1, 1, 2)


def test_the_bounds_of_an_accumulator_are_reached_by_the_worst_inputs():
    rng = np.random.default_rng(0)
    weights = rng.integers(-7, 8, (3, 6)).astype(np.int8)
    (call,) = bindings(module(lambda c: bnn.dense(c, const(weights)), ((1, 6), "int8")), "bnn.dense")
    worst = [np.where(row * sign > 0, 5, -2) @ row for row in weights.astype(int) for sign in (-1, 1)]
    assert accumulator_bounds(call, CodeRange(-2, 5, 1)) == (min(worst), max(worst))


def test_a_padded_code_counts_in_the_bounds():
    call = bindings(
        module(lambda c: bnn.conv2d(c, const(np.ones((1, 1, 1, 2), np.int8)), padding=(1, 1, 1, 1), pad_code=9), ((1, 4, 4, 2), "int8")), "bnn.conv2d"
    )[0]
    assert accumulator_bounds(call, CodeRange(0, 3, 1)) == (0, 18)


@pytest.mark.parametrize("weight, codes, expected", [(1, CodeRange(-1, 1, 1), True), (2, CodeRange(-1, 1, 2), False), (1, CodeRange(0, 3, 1), False)])
def test_bits_hold_signs_against_codes_of_one_and_zero(weight, codes, expected):
    call = bindings(module(lambda c: bnn.dense(c, const(np.full((1, 6), weight, np.int8))), ((1, 6), "int8")), "bnn.dense")[0]
    assert runs_on_bits(call, codes) is expected
