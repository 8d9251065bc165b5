from __future__ import annotations

import itertools

import numpy as np
import pytest

from bnncc.ops import bnn

from .dialect import CHANNELS, call_type, evaluate, signs


@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
def test_logic_looks_up_the_row_of_its_case(inputs):
    rng = np.random.default_rng(inputs)
    table = tuple(int(v) for v in rng.integers(0, 2, 1 << inputs))
    cases = np.array(list(itertools.product([-1, 1], repeat=inputs)), np.int8)
    out = evaluate(bnn.logic, *cases.T, table=table)
    for case, value in zip(cases.tolist(), out.tolist()):
        assert value == (-1 if table[sum(1 << i for i, v in enumerate(case) if v == -1)] else 1)


@pytest.mark.parametrize("table, function", [((0, 1, 1, 0), np.multiply), ((0, 0, 0, 1), np.maximum), ((0, 1, 1, 1), np.minimum)])
def test_the_tables_of_xnor_or_and(table, function):
    a, b = np.array([-1, -1, 1, 1], np.int8), np.array([-1, 1, -1, 1], np.int8)
    np.testing.assert_array_equal(evaluate(bnn.logic, a, b, table=table), function(a, b))


def test_logic_broadcasts():
    rng = np.random.default_rng(0)
    a, b = signs(rng, 2, 3, 4), signs(rng, 4)
    np.testing.assert_array_equal(evaluate(bnn.logic, a, b, table=(0, 1, 1, 0)), a * b)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_packed_logic_is_logic_on_words(channels, inputs, groups):
    rng = np.random.default_rng(channels)
    pack = {"channels": groups * channels, "groups": groups, "word_bits": 32}
    arrays = [signs(rng, 2, groups * channels) for _ in range(inputs)]
    table = tuple(int(v) for v in rng.integers(0, 2, (1 << inputs) - 1)) + (1,)
    table = (1,) + table[1:]  # the case of all ones must not leak into the tail
    words = evaluate(bnn.packed_logic, *(evaluate(bnn.pack, a, **pack) for a in arrays), table=table, channels=groups * channels, groups=groups)
    np.testing.assert_array_equal(words, evaluate(bnn.pack, evaluate(bnn.logic, *arrays, table=table), **pack))


@pytest.mark.parametrize("build, attributes", [(bnn.logic, {}), (bnn.packed_logic, {"channels": 4})])
def test_a_table_has_two_to_the_n_entries(build, attributes):
    with pytest.raises(ValueError, match="2 inputs need 4 table entries"):
        call_type(build, ((4,), "int8"), ((4,), "int8"), table=(0, 1), **attributes)


def test_logic_takes_codes():
    with pytest.raises(ValueError, match="must be int8"):
        call_type(bnn.logic, ((4,), "float32"), table=(0, 1))


@pytest.mark.parametrize("other", [((2, 1), "uint32"), ((1, 1), "uint64")])
def test_packed_logic_takes_equal_tensors(other):
    with pytest.raises(ValueError, match="differ in shape or word"):
        call_type(bnn.packed_logic, ((1, 1), "uint32"), other, table=(0, 1, 1, 0), channels=32)
