"""Slices of a sign stored on channels: halves of shuffled channels, and means over slices, move nothing but channels."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax import op

from .layout_checks import canonical
from .programs import module, operators

WEIGHTS = relax.const(np.random.default_rng(0).integers(-3, 4, (24, 4, 3, 3)).astype(np.float32))


def between_convolution_and_pool(*functions):
    """Return the canonical module of some movement of 24 channels of (2, 24, 6, 6)."""

    def build(x):
        y = op.nn.conv2d(x, WEIGHTS, padding=1)
        for function in functions:
            y = function(y)
        return op.nn.max_pool2d(y, [2, 2])

    return canonical(module(build, ((2, 4, 6, 6), "float32")))[0]


def test_half_of_shuffled_channels_of_a_slice_is_one_take():
    """As BoolNet's blocks split what the block before has shuffled, slice by slice."""
    new = between_convolution_and_pool(
        lambda v: op.reshape(v, [2, 2, 2, 6, 6, 6]),
        lambda v: op.permute_dims(v, [0, 1, 3, 2, 4, 5]),
        lambda v: op.reshape(v, [2, 2, 12, 6, 6]),
        lambda v: op.strided_slice(v, [2], [0], [6]),
        lambda v: op.reshape(v, [2, 12, 6, 6]),
    )
    assert operators(new) == ["permute_dims", "nn.conv2d", "take", "nn.max_pool2d", "permute_dims"]


def test_a_mean_of_a_few_slices_is_a_sum_of_selections():
    new = between_convolution_and_pool(lambda v: op.reshape(v, [2, 2, 12, 6, 6]), lambda v: op.mean(v, [1]))
    assert operators(new) == ["permute_dims", "nn.conv2d", *["take"] * 2, "add", "divide", "nn.max_pool2d", "permute_dims"]
