"""Contractions that make their own input: padded, or brought to NHWC, some rows at a time; bit for bit what the operators mean one by one."""

from __future__ import annotations

import numpy as np
import pytest
from covering import pairs
from group_runner import check_exact, group, words
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.ops.pack import PackAttrs, pack_reference, tail_mask
from bnncc.targets.x86 import V2, V3, runs_here

VARIANT = V3 if runs_here(V3) else V2
GEOMETRY = [((1, 1), 1, 1, (9, 10)), ((2, 2), 1, 3, (11, 9)), ((1, 2), 2, 2, (8, 8)), ((3, 1), 1, 0, (13, 7)), ((1, 1), 1, 2, (40, 33))]


def codes(rng, shape, zeros):
    return rng.choice(np.array([-1, 0, 1] if zeros else [-1, 1], np.int8), shape)


@pytest.mark.parametrize("strides, dilation, top, size, mode, zeros", pairs(GEOMETRY, ["constant", "edge", "reflect"], [None, False, True]), ids=str)
def test_binary_convolution_of_padded_words(strides, dilation, top, size, mode, zeros, tmp_path):
    rng, channels, planes = np.random.default_rng(top), 70, 1 if zeros is None else 2
    x = pack_reference(PackAttrs(channels, 1, 64, planes), codes(rng, (1, *size, channels), zeros))
    fill = np.tile(tail_mask(channels, 1, 64), planes)
    w, t = words(rng, (24, 3, 3), 64, channels), rng.integers(-9, 9, (1, 24)).astype(np.int32)

    def emit(b, x, w, fill, t):
        p = b.emit(bnn.packed_pad(x, fill, (top, 1, 2, 3), mode))
        y = b.emit(bnn.packed_conv2d(p, w, channels=channels, strides=strides, dilation=(dilation, dilation), planes=planes))
        return y, bnn.pack(b.emit(bnn.quantize(y, t, R.const(np.int8(1), "int8"))), 24)

    params = [(a.shape, str(a.dtype)) for a in (x, w, fill, t)]
    check_exact(group(emit, *params, constants=(1, 2, 3)), [x, w, fill, t], tmp_path, VARIANT)


@pytest.mark.parametrize("groups", [1, 4, 12])
@pytest.mark.parametrize("strides, dilation, top, size", GEOMETRY)
def test_float_convolution_of_a_padded_image_in_channels_first(strides, dilation, top, size, groups, tmp_path):
    """Values are small integers, so that no order of additions rounds."""
    rng = np.random.default_rng(groups)
    x = rng.integers(-8, 9, (2, 12, *size)).astype(np.float32)
    w = rng.integers(-8, 9, (3, 3, 12 // groups, 24 if groups < 12 else 12)).astype(np.float32)

    def emit(b, x, w):
        y = b.emit(R.nn.pad(b.emit(R.permute_dims(x, (0, 2, 3, 1))), [0, 0, top, 1, 2, 3, 0, 0]))
        return R.nn.conv2d(y, w, strides=strides, dilation=(dilation, dilation), groups=groups, data_layout="NHWC", kernel_layout="HWIO")

    check_exact(group(emit, (x.shape, "float32"), (w.shape, "float32"), constants=(1,)), [x, w], tmp_path, VARIANT)


@pytest.mark.parametrize("size, padding", [((3, 2), (1, 1, 1, 1)), ((5, 1), (0, 1, 0, 1)), ((3, 9), (2, 0, 0, 0))])
@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_rows_shorter_than_a_vector_and_padding_on_some_sides_only(size, padding, mode, tmp_path):
    rng = np.random.default_rng(4)
    x, w, fill = words(rng, (1, *size), 64, 3), words(rng, (2, 2, 2), 64, 3), tail_mask(3, 1, 64)

    def emit(b, x, w, fill):
        return bnn.packed_conv2d(b.emit(bnn.packed_pad(x, fill, padding, mode)), w, channels=3)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in (x, w, fill)), constants=(1, 2)), [x, w, fill], tmp_path, VARIANT)


def test_only_the_order_of_axes_changes(tmp_path):
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-8, 9, s).astype(np.float32) for s in ((1, 5, 6, 7), (1, 1, 5, 9)))

    def emit(b, x, w):
        return R.nn.conv2d(b.emit(R.permute_dims(x, (0, 2, 3, 1))), w, data_layout="NHWC", kernel_layout="HWIO")

    check_exact(group(emit, (x.shape, "float32"), (w.shape, "float32"), constants=(1,)), [x, w], tmp_path, VARIANT)


@pytest.mark.parametrize("code", [0, 3])
def test_integer_convolution_of_padded_codes(code, tmp_path):
    rng = np.random.default_rng(code)
    x, w = rng.integers(0, 16, (1, 9, 8, 5)).astype(np.int16), rng.integers(-8, 8, (12, 3, 3, 5)).astype(np.int8)

    def emit(b, x, w):
        return bnn.conv2d(b.emit(bnn.pad(x, (1, 1, 1, 1), "constant", code)), w)

    check_exact(group(emit, (x.shape, "int16"), (w.shape, "int8"), constants=(1,)), [x, w], tmp_path, VARIANT)


def test_a_plane_convolution_of_padded_planes(tmp_path):
    rng = np.random.default_rng(1)
    attrs = PackAttrs(40, 1, 64, 2, 0, 1)
    x = pack_reference(attrs, rng.integers(0, 4, (1, 6, 7, 40)).astype(np.uint8))
    fill, w = pack_reference(attrs, np.zeros(40, np.uint8)), words(rng, (16, 3, 3), 64, 40)
    bias = rng.integers(0, 99, 16).astype(np.int32) * 2

    def emit(b, x, w, bias, fill):
        p = b.emit(bnn.packed_pad(x, fill, (1, 1, 1, 1)))
        return bnn.plane_conv2d(p, w, bias, channels=40, input_scales=(1, 2), weight_scales=(1,))

    params = [(a.shape, str(a.dtype)) for a in (x, w, bias, fill)]
    check_exact(group(emit, *params, constants=(1, 2, 3)), [x, w, bias, fill], tmp_path, VARIANT)


def test_a_depthwise_binary_convolution_of_padded_words(tmp_path):
    rng, mask = np.random.default_rng(2), tail_mask(20, 20, 8)
    x, w = words(rng, (1, 6, 7), 8, 20, 20), words(rng, (20, 3, 3), 8, 1)

    def emit(b, x, w, fill):
        return bnn.packed_conv2d(b.emit(bnn.packed_pad(x, fill, (1, 1, 1, 1))), w, channels=20, groups=20)

    params = [(a.shape, str(a.dtype)) for a in (x, w, mask)]
    check_exact(group(emit, *params, constants=(1, 2)), [x, w, mask], tmp_path, VARIANT)


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("channels, each, times", [(12, 1, 4), (12, 4, 1), (16, 2, 2), (32, 1, 4), (64, 1, 2), (5, 3, 1), (20, 4, 1), (128, 4, 1)])
def test_slices_of_a_sign_are_compared_in_one_epilogue(channels, each, times, planes, tmp_path):
    """Of accumulators, and of what is computed of them in between."""
    rng, wide = np.random.default_rng(channels), channels * each * times
    x, w = words(rng, (1, 6, 7), 64, 40), words(rng, (channels, 3, 3), 64, 40)
    scale = rng.integers(-3, 4, channels).astype(np.float32)
    limits = [np.sort(rng.integers(-20, 20, (planes, wide)), axis=0) for _ in range(2)]
    flip = rng.choice(np.array([-1, 1], np.int8), wide) if planes == 1 else np.ones(wide, np.int8)

    def emit(b, x, w, scale, t, u, f):
        y = b.emit(bnn.packed_conv2d(x, w, channels=40))
        real = b.emit(R.multiply(b.emit(R.astype(y, "float32")), scale))
        results = []
        for value, limit in ((y, t), (real, u)):
            q = b.emit(bnn.quantize(b.emit(bnn.repeat_channels(value, each=each, times=times)), limit, f, -1, 3 - planes))
            results.append(bnn.pack(q, wide, planes=planes))
        return tuple(results)

    arrays = [x, w, scale, limits[0].astype(np.int32), limits[1].astype(np.float32), flip]
    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=range(1, 6)), arrays, tmp_path, VARIANT)


def test_slices_of_a_tensor_in_memory(tmp_path):
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal((1, 5, 6, 12)).astype(np.float32), rng.standard_normal((1, 48)).astype(np.float32)]

    def emit(b, x, t):
        return bnn.pack(b.emit(bnn.quantize(b.emit(bnn.repeat_channels(x, each=4)), t, R.const(np.int8(1), "int8"))), 48)

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1,)), arrays, tmp_path, VARIANT)
