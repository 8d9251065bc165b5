"""TabulateOutputs: without floating point an output that is a function of an integer sum is a table of it."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.context import Options, PassContext
from bnncc.passes.rewrite import const, constant
from bnncc.passes.tabulate_outputs import tabulate_outputs
from tests.passes.programs import bindings, module, operators, rewritten, signs, unchanged

F = np.float32
CODES = ((3, 32), "int8")


def soft() -> PassContext:
    return PassContext(Options(has_float_unit=False))


def scores(scale, outputs: int = 4, inputs: int = 32):
    """Return a function that builds a dense layer of signs, scaled, and shifted by a third."""
    weights = const(signs(np.random.default_rng(0), outputs, inputs))
    return lambda c: op.add(op.multiply(op.astype(bnn.dense(c, weights), "float32"), const(np.asarray(scale, F))), const(F(1 / 3)))


@pytest.mark.parametrize(("scale", "numbers"), [(0.7, 33), ([0.1, -3, 0, 1e9], 4 * 33)])
def test_a_table_holds_what_the_source_computes_of_each_sum(scale, numbers):
    after = rewritten(tabulate_outputs, module(scores(scale), CODES), soft())
    (take,) = bindings(after, "take")
    assert constant(take.args[0]).shape == (numbers,) and "astype" not in operators(after)


def test_with_a_unit_for_floating_point_outputs_are_computed():
    unchanged(tabulate_outputs, module(scores(0.7), CODES))


def test_a_table_too_large_is_not_made_and_that_is_told():
    ctx = soft()
    unchanged(tabulate_outputs, module(scores(np.ones(300, F), 300), CODES), ctx)
    assert "too many values for a table" in ctx.warnings[0]


def test_numbers_in_between_are_left_to_what_reads_them():
    unchanged(tabulate_outputs, module(lambda c: op.nn.softmax(scores(0.7)(c)), CODES), soft())
