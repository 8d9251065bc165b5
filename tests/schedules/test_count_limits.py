"""Thresholds in counts: what only a quantizer reads is compared as it is counted, bit for bit as if it had been summed."""

from __future__ import annotations

import numpy as np
import pytest
from group_runner import assembly, check_exact, group, words
from test_neon_kernels import NEON, emulated
from test_popcount_kernels import conv_bits, two_planes
from tvm import relax

from bnncc.ops import bnn
from bnncc.schedules import build_kernel
from bnncc.schedules.count_limits import limits_of, turned_limits_of
from bnncc.targets.x86 import V3

OPTIONS = [{}, {"border": True}, {"groups": 2}, {"stride": 2}, {"bits": 8}, {"bits": 32, "out_bits": 16}, {"out_bits": 8, "border": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("inputs, outputs", [(66, 30), (64, 128), (192, 64)])
def test_bits_are_those_of_the_sums(inputs, outputs, options, tmp_path):
    function, arrays = conv_bits(np.random.default_rng(inputs), inputs, outputs, 9, **options, sums=False)
    kernel = build_kernel(function, V3)
    assert len(kernel.relayout[1].reads) == 1, "the weights know the directions"
    check_exact(function, arrays, tmp_path)


@emulated
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_bits_are_those_of_the_sums_under_neon(options, tmp_path):
    check_exact(*conv_bits(np.random.default_rng(7), 66, 80, 9, **options, sums=False), tmp_path, NEON)


@pytest.mark.parametrize("thresholds", [1, 3])
@pytest.mark.parametrize("flip", ["constant", "array"])
def test_several_thresholds_and_one_direction_for_all(thresholds, flip, tmp_path):
    rng = np.random.default_rng(thresholds)
    types = [((5, 2), "uint64"), ((40, 2), "uint64"), ((thresholds, 40), "int32"), ((1,), "int8")][: 3 if flip == "constant" else 4]

    def emit(b, x, w, t, f=None):
        y = b.emit(bnn.packed_dense(x, w, channels=100))
        return bnn.quantize(y, t, relax.const(np.int8(-1)) if f is None else f, lo=0, step=1)

    arrays = [words(rng, (5,), 64, 100), words(rng, (40,), 64, 100), np.sort(rng.integers(-30, 31, (thresholds, 40)), 0).astype(np.int32)]
    arrays += [] if flip == "constant" else [np.array([-1], np.int8)]
    check_exact(group(emit, *types, constants=range(1, len(types))), arrays, tmp_path)


def test_a_limit_is_the_first_count_that_does_not_reach_the_threshold():
    rng = np.random.default_rng(0)
    length, channels = 9, 50
    thresholds = rng.integers(-40, 41, (2, channels)).astype(np.int32)
    border = rng.integers(-5, 6, (2, 3, channels)).astype(np.int32)
    falls = rng.random(channels) < 0.5
    limits = limits_of(thresholds, border, falls, length)
    for count in range(length + 1):
        sums = length - 2 * np.where(falls, length - count, count) + border
        for i in range(2):
            reached = np.where(falls, sums <= thresholds[i], sums >= thresholds[i])
            np.testing.assert_array_equal(count < limits[i], reached)


def test_nothing_is_summed_in_the_code():
    code = assembly(conv_bits(np.random.default_rng(1), 64, 64, 10, sums=False)[0], NEON)
    assert "cmh" in code and "ushll" not in code, "counts of 16 bits are compared as they are"


@pytest.mark.parametrize("planes", [1, 2])
def test_a_turned_count_is_less_than_its_limit_where_the_threshold_is_reached(planes):
    rng = np.random.default_rng(planes)
    length, channels = 9, 50
    thresholds = rng.integers(-40, 41, (2, channels)).astype(np.int32)
    border = rng.integers(-5, 6, (2, 3, channels)).astype(np.int32)
    falls = rng.random(channels) < 0.5
    limits = turned_limits_of(thresholds, border, falls, length, planes)
    assert np.abs(limits).max() <= planes * length + 1
    for count in range(planes * length + 1):
        sums = length - 2 // planes * count + border
        for i in range(2):
            reached = np.where(falls, sums <= thresholds[i], sums >= thresholds[i])
            np.testing.assert_array_equal(np.where(falls, ~count, count) < limits[i], reached)


@pytest.mark.parametrize("values", ["signs", "zeros", "two planes without zeros"])
@pytest.mark.parametrize("outputs, each, times, thresholds", [(32, 4, 1, 1), (16, 1, 4, 1), (12, 3, 1, 2), (40, 1, 1, 2), (7, 2, 2, 1), (256, 2, 1, 1)])
def test_slices_and_zeros_are_compared_as_counts(outputs, each, times, thresholds, values, tmp_path):
    """Codes of one channel that fall in one slice and rise in another, and inputs of three values, whichever occur."""
    rng, wide, planes = np.random.default_rng(outputs), outputs * each * times, 1 if values == "signs" else 2
    x = words(rng, (1, 7, 6), 64, 65) if planes == 1 else two_planes(rng, (1, 7, 6), 64, 65, 1, values == "zeros")
    arrays = [x, words(rng, (outputs, 3, 3), 64, 65), np.sort(rng.integers(-60, 61, (thresholds, wide)), axis=0).astype(np.int32)]
    arrays += [rng.choice(np.array([-1, 1], np.int8), wide) if thresholds == 1 else np.full(wide, -1, np.int8)]
    if thresholds == 2:
        arrays[2] = arrays[2][::-1].copy()

    def emit(b, x, w, t, f):
        y = b.emit(bnn.packed_conv2d(x, w, channels=65, planes=planes))
        r = y if each * times == 1 else b.emit(bnn.repeat_channels(y, each=each, times=times))
        return bnn.pack(b.emit(bnn.quantize(r, t, f, -1, 3 - thresholds)), channels=wide, planes=thresholds)

    function = group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3))
    if (outputs, each) == (32, 4):
        code = assembly(function, V3)
        assert "vpcmpgtw" in code and "vpcmpgtd" not in code, "counts are compared in 16 bits"
    check_exact(function, arrays, tmp_path)
