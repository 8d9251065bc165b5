"""The carry-save tree, with words of 32 bits and no vectors, as microcontrollers get it; here compiled for x86 to be run."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from bnncc.targets import Variant
from tests.schedules.group_runner import CompiledGroup, check_exact, group, meaning, words
from tests.schedules.test_popcount_kernels import conv_bits, two_planes

SCALAR = Variant("scalar", {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v2"}, 32, 13, word_bits=32)


@pytest.mark.parametrize("kernel, ci", [(1, 1), (1, 32), (1, 224), (1, 256), (1, 288), (3, 33), (3, 64), (3, 250)])
def test_any_count_of_words_is_exact(kernel, ci, tmp_path):
    """1, 1, 7, 8, 9, 18, 18 and 72 words: no chunk, whole chunks only, and both."""
    function, arrays = conv_bits(np.random.default_rng(ci), ci, 20, 6, kernel=kernel, bits=32, out_bits=32)
    check_exact(function, arrays, tmp_path, SCALAR)


@pytest.mark.parametrize("ci, co, groups, stride, border", [(66, 70, 2, 1, False), (64, 64, 4, 2, False), (40, 33, 1, 2, False), (64, 64, 1, 1, True)])
def test_groups_strides_and_borders_are_exact(ci, co, groups, stride, border, tmp_path):
    function, arrays = conv_bits(np.random.default_rng(0), ci, co, 8, stride=stride, groups=groups, bits=32, out_bits=32, border=border)
    check_exact(function, arrays, tmp_path, SCALAR)


@pytest.mark.parametrize("zeros", [False, True])
def test_codes_with_zeros_are_summed_over_two_planes(zeros, tmp_path):
    rng = np.random.default_rng(5)
    arrays = [two_planes(rng, (1, 6, 6), 32, 66, 2, zeros), words(rng, (64, 3, 3), 32, 33)]
    params = [(a.shape, "uint32") for a in arrays]
    function = group(lambda b, x, w: bnn.packed_conv2d(x, w, channels=66, groups=2, planes=2), *params, constants=(1,))
    check_exact(function, arrays, tmp_path, SCALAR)


@pytest.mark.parametrize("chunk", [4, 8, 16])
def test_any_number_of_words_may_be_added_at_a_time(chunk, tmp_path):
    """27 words: whole chunks and a rest."""
    function, arrays = conv_bits(np.random.default_rng(chunk), 96, 20, 6, kernel=3, bits=32, out_bits=32)
    compiled = CompiledGroup(function, tmp_path, SCALAR, {"tree chunk": chunk})
    assert f"tree of {chunk} words" in compiled.kernel.note
    for made, right in zip(compiled(*arrays), meaning(function, arrays), strict=True):
        np.testing.assert_array_equal(made, right)
