from __future__ import annotations

import itertools

import numpy as np
import pytest

from bnncc.ops import bnn

from .dialect import CHANNELS, call_type, evaluate, signs

VALUES = {2: (1, -1), 3: (1, 0, -1)}


@pytest.mark.parametrize("levels", [(2,), (2, 2), (3,), (2, 3), (3, 2), (3, 3, 2), (2, 2, 2, 2)], ids=str)
def test_logic_looks_up_the_row_of_its_digits_first_input_least(levels):
    rng = np.random.default_rng(len(levels))
    table = tuple(int(v) for v in rng.integers(-1, 2, int(np.prod(levels))))
    # itertools varies the last factor fastest: reversed, the first input is the least digit
    cases = np.array([case[::-1] for case in itertools.product(*(VALUES[n] for n in reversed(levels)))], np.int8)
    assert evaluate(bnn.logic, *cases.T, table=table, levels=levels).tolist() == list(table)


@pytest.mark.parametrize("table, function", [((1, -1, -1, 1), np.multiply), ((1, 1, 1, -1), np.maximum), ((1, -1, -1, -1), np.minimum)])
def test_the_tables_of_xnor_or_and(table, function):
    a, b = np.array([-1, -1, 1, 1], np.int8), np.array([-1, 1, -1, 1], np.int8)
    np.testing.assert_array_equal(evaluate(bnn.logic, a, b, table=table), function(a, b))


def test_the_product_of_a_code_with_zeros_and_a_sign():
    a, b = (v.ravel().astype(np.int8) for v in np.meshgrid([-1, 0, 1], [-1, 1]))
    np.testing.assert_array_equal(evaluate(bnn.logic, a, b, table=(1, 0, -1, -1, 0, 1), levels=(3, 2)), a * b)


def test_logic_broadcasts():
    rng = np.random.default_rng(0)
    a, b = signs(rng, 2, 3, 4), signs(rng, 4)
    np.testing.assert_array_equal(evaluate(bnn.logic, a, b, table=(1, -1, -1, 1)), a * b)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_packed_logic_is_logic_on_words(channels, inputs, groups):
    rng = np.random.default_rng(channels)
    pack = {"channels": groups * channels, "groups": groups, "word_bits": 32}
    arrays = [signs(rng, 2, groups * channels) for _ in range(inputs)]
    # the case of all +1 gives -1, which must not leak into the tail, where every bit is 0
    bits = (1, *(int(v) for v in rng.integers(0, 2, (1 << inputs) - 1)))
    words = evaluate(bnn.packed_logic, *(evaluate(bnn.pack, a, **pack) for a in arrays), table=bits, channels=groups * channels, groups=groups)
    codes = evaluate(bnn.logic, *arrays, table=tuple(1 - 2 * b for b in bits))
    np.testing.assert_array_equal(words, evaluate(bnn.pack, codes, **pack))


@pytest.mark.parametrize("channels", [1, 33, 64, 65])
def test_packed_logic_reads_the_plane_it_is_told(channels):
    rng = np.random.default_rng(channels)
    a, b = rng.integers(-1, 2, (3, channels)).astype(np.int8), signs(rng, 3, channels)
    words = [evaluate(bnn.pack, a, channels=channels, planes=2), evaluate(bnn.pack, b, channels=channels)]
    for plane, bit in ((0, a < 0), (1, a < 1)):
        got = evaluate(bnn.packed_logic, *words, table=(0, 1, 1, 0), channels=channels, planes=(plane, 0))
        want = np.where(bit ^ (b < 0), -1, 1).astype(np.int8)
        np.testing.assert_array_equal(got, evaluate(bnn.pack, want, channels=channels))


@pytest.mark.parametrize("levels, rows", [((2, 2), 4), ((3, 2), 6)])
def test_a_table_has_an_entry_a_case(levels, rows):
    with pytest.raises(ValueError, match=f"need {rows} table entries, found 2"):
        call_type(bnn.logic, ((4,), "int8"), ((4,), "int8"), table=(1, -1), levels=levels)


@pytest.mark.parametrize("levels", [(2,), (2, 4)])
def test_every_input_takes_two_or_three_values(levels):
    with pytest.raises(ValueError, match="two or three values"):
        call_type(bnn.logic, ((4,), "int8"), ((4,), "int8"), table=(1, -1, 1, 1), levels=levels)


def test_entries_are_codes():
    with pytest.raises(ValueError, match="entries are codes"):
        call_type(bnn.logic, ((4,), "int8"), table=(0, 2))


def test_logic_takes_codes():
    with pytest.raises(ValueError, match="must be int8"):
        call_type(bnn.logic, ((4,), "float32"), table=(1, -1))


def test_a_packed_table_has_two_to_the_n_entries():
    with pytest.raises(ValueError, match="2 inputs need 4 table entries"):
        call_type(bnn.packed_logic, ((4, 1), "uint64"), ((4, 1), "uint64"), table=(0, 1), channels=4)


def test_packed_logic_names_a_plane_for_each_input():
    with pytest.raises(ValueError, match="a plane for each input"):
        call_type(bnn.packed_logic, ((4, 1), "uint64"), table=(0, 1), channels=4, planes=(0, 0))


def test_packed_logic_reads_planes_that_exist():
    with pytest.raises(ValueError, match="has no plane 1 of 1 words"):
        call_type(bnn.packed_logic, ((4, 1), "uint64"), table=(0, 1), channels=4, planes=(1,))


@pytest.mark.parametrize("other", [((2, 1), "uint32"), ((1, 1), "uint64")])
def test_packed_logic_takes_equal_tensors(other):
    with pytest.raises(ValueError, match="differ in shape or word"):
        call_type(bnn.packed_logic, ((1, 1), "uint32"), other, table=(0, 1, 1, 0), channels=32)
