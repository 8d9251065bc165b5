from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn

from .dialect import CHANNELS, call_type, evaluate, naive_conv2d, signs

GEOMETRY = [
    {},
    {"strides": (2, 1)},
    {"padding": (1, 0, 2, 3)},
    {"dilation": (2, 1), "padding": (1, 1, 1, 1)},
    {"strides": (2, 2), "padding": (1, 1, 1, 1), "pad_code": -1},
    {"padding": (2, 2, 2, 2), "pad_code": 1},
]


@pytest.mark.parametrize("attributes", GEOMETRY, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
def test_conv2d_is_the_sum_over_taps(attributes, groups):
    rng = np.random.default_rng(groups)
    x, w = rng.integers(-7, 8, (2, 6, 5, 2 * groups)).astype(np.int8), rng.integers(-3, 4, (3 * groups, 3, 2, 2)).astype(np.int8)
    plain = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "pad_code": 0, **attributes}
    want = naive_conv2d(x, w, plain["strides"], plain["padding"], plain["dilation"], groups, plain["pad_code"])
    np.testing.assert_array_equal(evaluate(bnn.conv2d, x, w, groups=groups, **attributes), want)


@pytest.mark.parametrize("channels", CHANNELS)
def test_dense_is_the_sum_over_channels(channels):
    rng = np.random.default_rng(channels)
    x, w = signs(rng, 3, channels), signs(rng, 4, channels)
    want = [[sum(int(a) * int(b) for a, b in zip(row, weights)) for weights in w] for row in x]
    assert evaluate(bnn.dense, x, w).tolist() == want


def test_conv2d_takes_int8_only():
    with pytest.raises(ValueError, match="must be int8"):
        call_type(bnn.conv2d, ((1, 4, 4, 2), "float32"), ((2, 3, 3, 2), "int8"))


def test_conv2d_weights_fit_the_input_channels():
    with pytest.raises(ValueError, match="4 input channels, but 3 groups of 2"):
        call_type(bnn.conv2d, ((1, 4, 4, 4), "int8"), ((3, 3, 3, 2), "int8"), groups=3)


def test_conv2d_groups_divide_the_output_channels():
    with pytest.raises(ValueError, match="3 output channels in 2 groups"):
        call_type(bnn.conv2d, ((1, 4, 4, 4), "int8"), ((3, 3, 3, 2), "int8"), groups=2)


def test_dense_weights_fit_the_input():
    with pytest.raises(ValueError, match="dense"):
        call_type(bnn.dense, ((1, 4), "int8"), ((3, 5), "int8"))
