"""Sliced kernels of microcontrollers, as C on this machine."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from tests.schedules.c_group import check_c, scalar
from tests.schedules.group_runner import group
from tests.schedules.test_popcount_kernels import conv_bits

WAYS = {"scaled": scalar("scaled-index"), "bytes": scalar(), "nibbles": scalar("scaled-index", optimize_for="flash")}


def answers(ci: int, co: int, size: int, **options):
    """A convolution whose bits alone are asked for: its threshold starts the counters."""
    function, arrays = conv_bits(np.random.default_rng(ci), ci, co, size, bits=32, out_bits=32, **options)
    stride, dilation, groups = (options.get(name, 1) for name in ("stride", "dilation", "groups"))

    def emit(b, x, w, t, f, *extra):
        y = b.emit(bnn.packed_conv2d(x, w, *extra, channels=ci, strides=(stride, stride), dilation=(dilation, dilation), groups=groups))
        return bnn.pack(b.emit(bnn.quantize(y, t, f)), channels=co, word_bits=32)

    arrays[2] = np.random.default_rng(co).integers(-30, 31, arrays[2].shape).astype(np.int32)
    arrays[2][0, :6] = np.array([-(2**31), 2**31 - 1, -9 * ci, 9 * ci, -9 * ci - 1, 9 * ci + 1])[: arrays[2][0, :6].size]
    params = [(array.shape, str(array.dtype)) for array in arrays]
    return group(emit, *params, constants=range(1, len(params))), arrays


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ci, co, size", [(64, 64, 18), (33, 40, 10), (2, 7, 30)])
def test_bits_of_convolutions_with_lanes_of_pixels_are_exact(ci, co, size, way, tmp_path):
    kernel = check_c(*answers(ci, co, size), tmp_path, WAYS[way])
    assert "lanes are" in kernel.note and ("nibbles" in kernel.note) == (way == "nibbles")


@pytest.mark.parametrize("options", [{"border": True}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"kernel": 1}, {"kernel": 5, "stride": 3}], ids=str)
def test_borders_strides_dilations_groups_and_other_kernels_are_exact(options, tmp_path):
    assert "lanes are" in check_c(*answers(66, 34, 17, **options), tmp_path, WAYS["scaled"]).note


@pytest.mark.parametrize("options", [{}, {"border": True}, {"groups": 3}], ids=str)
def test_counts_of_channels_that_go_on_as_numbers_are_exact(options, tmp_path):
    function, arrays = conv_bits(np.random.default_rng(0), 99, 33, 12, bits=32, out_bits=32, **options)
    assert "lanes are" in check_c(function, arrays, tmp_path, WAYS["scaled"]).note
