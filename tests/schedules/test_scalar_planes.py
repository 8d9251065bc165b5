"""Sliced kernels of microcontrollers on inputs of two planes, codes -1, 0, +1, as C on this machine."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from tests.schedules.c_group import check_c, scalar
from tests.schedules.covering import pairs
from tests.schedules.group_runner import group, words
from tests.schedules.test_popcount_kernels import conv_bits

HELIUM = scalar("scaled-index", "mve")
WAYS = {
    "scaled": scalar("scaled-index"),
    "bytes": scalar("two-operands", registers=8),
    "nibbles": scalar("scaled-index", optimize_for="flash"),
    "vectors": HELIUM,
}


def convolution(ci: int, co: int, size: int, zeros: bool, *, ends: str = "two", border: bool = False, groups: int = 1):
    """A convolution on signs, some of them 0 or none, whose sums end as the bits of two thresholds, of one, or as numbers."""
    rng = np.random.default_rng(ci)
    _, arrays = conv_bits(rng, ci, co, size, bits=32, out_bits=32, border=border, groups=groups)
    first = words(rng, (1, size, size), 32, ci, groups)
    second = first | words(rng, (1, size, size), 32, ci, groups) if zeros else first
    limits = np.sort(rng.integers(-20, 21, (2 if ends == "two" else 1, co)).astype(np.int32), axis=0)
    limits[:, ::2] = limits[:1, ::2]  # every second channel never gives 0
    flip = rng.choice(np.array([-1, 1], np.int8), co)
    limits = np.where(flip < 0, limits[::-1], limits)  # in the order in which they are reached
    arrays = [np.concatenate([first, second], axis=-1), arrays[1], limits, flip, *arrays[4:]]

    def emit(b, x, w, t, f, *extra):
        sums = b.emit(bnn.packed_conv2d(x, w, *extra, channels=ci, strides=(1, 1), dilation=(1, 1), groups=groups, planes=2))
        if ends == "numbers":
            return sums
        codes = b.emit(bnn.quantize(sums, t, f, -1, 1) if ends == "two" else bnn.quantize(sums, t, f))
        return bnn.pack(codes, channels=co, word_bits=32, planes=2 if ends == "two" else 1)

    return group(emit, *((array.shape, str(array.dtype)) for array in arrays), constants=range(1, len(arrays))), arrays


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_signs_that_may_be_zero_are_exact(way, zeros, tmp_path):
    assert "lanes are" in check_c(*convolution(64, 34, 18, zeros), tmp_path, WAYS[way]).note


@pytest.mark.parametrize("options", [{"ends": "one"}, {"ends": "numbers"}, {"border": True}, {"groups": 2}], ids=str)
def test_other_ends_borders_and_groups_are_exact(options, tmp_path):
    assert "lanes are" in check_c(*convolution(66, 34, 14, True, **dict(options)), tmp_path, WAYS["scaled"]).note


def dense(ci: int, co: int, zeros: bool, *, ends: str = "two", planes: int = 2):
    """A dense layer on signs, some of them 0 or none, whose sums end as the bits of two thresholds, of one, or as numbers."""
    rng = np.random.default_rng(ci)
    first = words(rng, (3,), 32, ci)
    second = first ^ (words(rng, (3,), 32, ci) & words(rng, (3,), 32, ci)) if zeros else first
    limits = np.sort(rng.integers(-30, 31, (2 if ends == "two" else 1, co)).astype(np.int32), axis=0)
    limits[:, :4] = [-ci, ci, -ci - 1, ci + 1]
    flip = rng.choice(np.array([-1, 1], np.int8), co)
    limits = np.where(flip < 0, limits[::-1], limits)
    if ends == "one for all":
        limits, flip = limits[:, 5:6], flip[5:6]
    arrays = [np.concatenate([first, second][:planes], axis=-1), words(rng, (co,), 32, ci), limits, flip]

    def emit(b, x, w, t, f):
        sums = b.emit(bnn.packed_dense(x, w, channels=ci, planes=planes))
        if ends == "numbers":
            return sums
        codes = b.emit(bnn.quantize(sums, t, f, -1, 1) if ends == "two" else bnn.quantize(sums, t, f))
        return bnn.pack(codes, channels=co, word_bits=32, planes=2 if ends == "two" else 1)

    return group(emit, *((array.shape, str(array.dtype)) for array in arrays), constants=(1, 2, 3)), arrays


@pytest.mark.parametrize(
    "way, ci, co, zeros, ends",
    pairs(
        [("scaled", 1024, 64), ("scaled", 65, 34), ("bytes", 161, 40), ("vectors", 96, 140), ("scaled", 24, 33)], [False, True], ["two", "one", "one for all"]
    ),
)
def test_dense_layers_on_signs_that_may_be_zero_are_exact(way, ci, co, zeros, ends, tmp_path):
    assert "lanes are channels" in check_c(*dense(ci, co, zeros, ends=ends), tmp_path, WAYS[way]).note


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("way, ci", [("scaled", 1024), ("bytes", 801)])
def test_counts_of_dense_layers_on_signs_that_may_be_zero_go_on_as_numbers(way, ci, zeros, tmp_path):
    assert "lanes are channels" in check_c(*dense(ci, 96, zeros, ends="numbers"), tmp_path, WAYS[way]).note


@pytest.mark.parametrize("way, co", [("scaled", 70), ("bytes", 33), ("vectors", 128)])
def test_dense_layers_with_two_thresholds_on_one_plane_are_exact(way, co, tmp_path):
    assert "lanes are channels" in check_c(*dense(130, co, False, planes=1), tmp_path, WAYS[way]).note


@pytest.mark.parametrize("way", ["scaled", "vectors"])
@pytest.mark.parametrize("ends", ["two", "one"])
def test_late_convolutions_on_signs_that_may_be_zero_meet_the_limits_of_their_border(way, ends, tmp_path):
    assert "lanes are channels" in check_c(*convolution(66, 128, 4, True, ends=ends, border=True), tmp_path, WAYS[way]).note
