from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn

from .dialect import call_type, evaluate


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_quantize_counts_the_thresholds_reached(dtype):
    x = np.array([[-3, 0, 5], [2, 2, 2]], dtype)
    thresholds = np.array([[-1, 0, 5], [2, 3, 6]], dtype)
    flip = np.ones(3, np.int8)
    want = [[sum(int(v >= t) for t in column) for v, column in zip(row, thresholds.T)] for row in x]
    assert evaluate(bnn.quantize, x, thresholds, flip, lo=0, step=1).tolist() == want


def test_a_falling_channel_counts_from_above_and_takes_its_tie():
    x = np.array([1, 2, 3], np.float32)
    assert evaluate(bnn.quantize, x, np.array([[2]], np.float32), np.array([-1], np.int8)).tolist() == [1, 1, -1]


def test_one_threshold_is_binarize_and_zero_is_plus_one():
    x = np.array([-0.5, -0.0, 0.0, 0.5], np.float32)
    assert evaluate(bnn.quantize, x, np.zeros((1, 1), np.float32), np.ones(1, np.int8)).tolist() == [-1, 1, 1, 1]


@pytest.mark.parametrize("lo, step, n", [(-1, 1, 2), (0, 1, 3), (-3, 2, 3)])
def test_lo_and_step_make_the_codes(lo, step, n):
    x = np.arange(n + 1, dtype=np.int32)
    thresholds = np.arange(1, n + 1, dtype=np.int32)[:, None]
    assert evaluate(bnn.quantize, x, thresholds, np.ones(1, np.int8), lo=lo, step=step).tolist() == [lo + step * i for i in range(n + 1)]


def test_thresholds_have_the_type_of_the_input():
    with pytest.raises(ValueError, match="thresholds are int32, the input float32"):
        call_type(bnn.quantize, ((4,), "float32"), ((1, 4), "int32"), ((4,), "int8"))


def test_flip_is_int8():
    with pytest.raises(ValueError, match="flip must be int8"):
        call_type(bnn.quantize, ((4,), "float32"), ((1, 4), "float32"), ((4,), "float32"))


def test_thresholds_broadcast_against_the_input():
    with pytest.raises(ValueError, match="shape"):
        call_type(bnn.quantize, ((4,), "float32"), ((1, 3), "float32"), ((1,), "int8"))
