"""Tables of boolean functions lose the cases that cannot occur, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.fold_logic import fold_logic
from bnncc.passes.rewrite import const

from .programs import binarized, bindings, module, rewritten, unchanged

SHAPES = [((1, 3, 3, 8), "float32")] * 2
# OR in clip arithmetic: clip((a + 1) / 2 + (b + 1) / 2, 0, 1) * 2 - 1 of +1, 0, -1, the first input's digit least
OR = [1, 1, 1, 1, 1, 0, 1, 0, -1]


def either(ternary_a: bool, ternary_b: bool):
    return lambda x, y: bnn.logic(binarized(x, ternary_a), binarized(y, ternary_b), table=OR, levels=(3, 3))


@pytest.mark.parametrize("a, b, table", [(False, False, (1, 1, 1, -1)), (True, False, (1, 1, 1, 1, 0, -1)), (False, True, (1, 1, 1, 0, 1, -1))])
def test_an_input_of_two_values_has_two_cases(a, b, table):
    (logic,) = bindings(rewritten(fold_logic, module(either(a, b), *SHAPES)), "bnn.logic")
    assert tuple(logic.attrs.table) == table and tuple(logic.attrs.levels) == (2 + a, 2 + b)


def test_what_is_made_of_two_values_is_known_to_have_no_zero():
    def build(x, y):
        first = either(False, False)(x, y)
        return bnn.logic(op.strided_slice(first, [3], [0], [8], [1]), binarized(x), table=OR, levels=(3, 3))

    *_, last = bindings(rewritten(fold_logic, module(build, *SHAPES)), "bnn.logic")
    assert tuple(last.attrs.levels) == (2, 2)


def test_zeros_that_can_occur_stay():
    unchanged(fold_logic, module(either(True, True), *SHAPES))


def test_codes_of_zero_and_minus_one_are_no_signs():
    def build(x, y):
        below = bnn.quantize(x, const(np.zeros(1, np.float32)), const(np.int8(1)), -1, 1)
        return bnn.logic(below, binarized(y, True), table=OR, levels=(3, 3))

    unchanged(fold_logic, module(build, *SHAPES))
