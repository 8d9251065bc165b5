"""Sliced kernels of microcontrollers, as C on this machine."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from bnncc.ops import bnn
from tests.schedules.c_group import check_c, scalar
from tests.schedules.group_runner import group, words
from tests.schedules.test_popcount_kernels import conv_bits

WAYS = {
    "scaled": scalar("scaled-index"),
    "bytes": scalar(registers=8),
    "two operands": scalar("two-operands", registers=8),
    "nibbles": scalar("scaled-index", optimize_for="flash"),
}


def answers(ci: int, co: int, size: int, **options):
    """A convolution whose bits alone are asked for: its threshold starts the counters."""
    more = {"in_groups": options.pop("in_groups")} if "in_groups" in options else {}
    _, arrays = conv_bits(np.random.default_rng(ci), ci, co, size, bits=32, out_bits=32, **options)
    if more:  # channels of all groups in a row
        arrays[0] = words(np.random.default_rng(ci), (1, size, size), 32, ci)
    stride, dilation, groups = (options.get(name, 1) for name in ("stride", "dilation", "groups"))

    def emit(b, x, w, t, f, *extra):
        y = b.emit(bnn.packed_conv2d(x, w, *extra, channels=ci, strides=(stride, stride), dilation=(dilation, dilation), groups=groups, **more))
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


@pytest.mark.parametrize(
    "options",
    [{"border": True}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"kernel": 1}, {"kernel": 5, "stride": 3}, {"kernel": 1, "stride": 2}],
    ids=str,
)
def test_borders_strides_dilations_groups_and_other_kernels_are_exact(options, tmp_path):
    for size in (17, 18):
        assert "lanes are" in check_c(*answers(66, 34, size, **dict(options)), tmp_path, WAYS["scaled"]).note


def test_blocks_of_rows_that_leave_lanes_free_are_exact(tmp_path):
    assert "lanes are 3 x 9 pixels" in check_c(*answers(33, 40, 11), tmp_path, WAYS["scaled"]).note


@pytest.mark.parametrize("way", ["scaled", "two operands"])
@pytest.mark.parametrize("size, cut", [(16, "1 x 32"), (14, "1 x 28"), (17, "1 x 29"), (7, "1 x 25")])
def test_images_of_single_pixels_are_cut_into_rows_that_fill_words(size, cut, way, tmp_path):
    for groups in ({}, {"groups": 2}):
        assert f"lanes are {cut} pixels" in check_c(*answers(66, 34, size, kernel=1, **groups), tmp_path, WAYS[way]).note


@pytest.mark.parametrize("size, cut", [(16, "4 x 1 x 32"), (14, "4 x 1 x 28")])
def test_rows_of_single_pixels_stand_in_vectors(size, cut, tmp_path):
    assert f"lanes are {cut} pixels" in check_c(*answers(66, 34, size, kernel=1), tmp_path, scalar("scaled-index", "mve")).note


@pytest.mark.parametrize("ci", [128, 66], ids=["groups start words", "groups start within words"])
def test_groups_out_of_words_of_all_channels_are_exact(ci, tmp_path):
    check_c(*answers(ci, 34, 17, groups=2, in_groups=1), tmp_path, WAYS["scaled"])


@pytest.mark.parametrize("options", [{}, {"border": True}, {"groups": 3}], ids=str)
def test_counts_of_channels_that_go_on_as_numbers_are_exact(options, tmp_path):
    function, arrays = conv_bits(np.random.default_rng(0), 99, 33, 12, bits=32, out_bits=32, **options)
    assert "lanes are" in check_c(function, arrays, tmp_path, WAYS["scaled"]).note


def dense(ci: int, co: int, bits: int = 32):
    """A dense layer whose bits alone are asked for, with thresholds in both directions and beyond all sums."""
    rng = np.random.default_rng(ci)
    arrays = [
        words(rng, (3,), bits, ci),
        words(rng, (co,), bits, ci),
        rng.integers(-30, 31, (1, co)).astype(np.int32),
        rng.choice(np.array([-1, 1], np.int8), co),
    ]
    arrays[2][0, :4] = [-ci, ci, -ci - 1, ci + 1]

    def emit(b, x, w, t, f):
        return bnn.pack(b.emit(bnn.quantize(b.emit(bnn.packed_dense(x, w, channels=ci)), t, f)), channels=co, word_bits=bits)

    return group(emit, *((array.shape, str(array.dtype)) for array in arrays), constants=(1, 2, 3)), arrays


@pytest.mark.parametrize("way", ["scaled", "bytes", "two operands"])
@pytest.mark.parametrize("ci, co, bits", [(1024, 64, 32), (65, 33, 32), (64, 40, 32), (17, 40, 32), (24, 40, 8)])
def test_bits_of_dense_layers_with_lanes_of_channels_are_exact(ci, co, bits, way, tmp_path):
    assert "lanes are channels" in check_c(*dense(ci, co, bits), tmp_path, WAYS[way]).note


@pytest.mark.parametrize("ci, co, bits", [(96, 128, 32), (65, 140, 32), (24, 140, 8)])
def test_bits_of_dense_layers_in_vectors_of_words_are_exact(ci, co, bits, tmp_path):
    assert "lanes are channels" in check_c(*dense(ci, co, bits), tmp_path, scalar("scaled-index", "mve")).note


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"groups": 2, "in_groups": 1}, {"border": True}], ids=str)
def test_late_convolutions_with_lanes_of_channels_are_exact(options, tmp_path):
    assert "lanes are channels" in check_c(*answers(66, 128, 4, **options), tmp_path, WAYS["scaled"]).note


def test_counts_of_late_convolutions_that_go_on_as_numbers_are_exact(tmp_path):
    function, arrays = conv_bits(np.random.default_rng(0), 99, 64, 4, bits=32, out_bits=32)
    assert "lanes are channels" in check_c(function, arrays, tmp_path, WAYS["scaled"]).note


@pytest.mark.parametrize("flip", [-1, 1])
def test_one_threshold_for_all_channels_is_exact(flip, tmp_path):
    function, arrays = dense(96, 40)
    x, w = arrays[:2]

    def emit(b, x, w):
        sums = b.emit(bnn.packed_dense(x, w, channels=96))
        return bnn.pack(b.emit(bnn.quantize(sums, relax.const(np.array([[3]], np.int32)), relax.const(np.array([flip], np.int8)))), channels=40, word_bits=32)

    check_c(group(emit, (x.shape, "uint32"), (w.shape, "uint32"), constants=(1,)), [x, w], tmp_path, WAYS["scaled"])


def test_ram_is_saved_by_trees(tmp_path):
    assert "tree" in check_c(*answers(64, 64, 10), tmp_path, scalar("scaled-index", optimize_for="ram")).note


@pytest.mark.parametrize("options", [{}, {"border": True}, {"stride": 2}, {"groups": 2}, {"kernel": 1}, {"kernel": 1, "stride": 2}], ids=str)
def test_convolutions_in_vectors_of_words_are_exact(options, tmp_path):
    assert check_c(*answers(66, 34, 22, **dict(options)), tmp_path, scalar("scaled-index", "mve")).note.count(" x ") == 2
