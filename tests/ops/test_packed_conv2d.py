from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from bnncc.ops.geometry import border_classes

from .dialect import CHANNELS, call_type, evaluate, naive_conv2d, signs


def _packed(x, channels, bits, groups=1, planes=1):
    return evaluate(bnn.pack, x, channels=channels, groups=groups, word_bits=bits, planes=planes)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("channels", CHANNELS)
def test_packed_conv2d_is_the_dot_product_of_signs(channels, bits):
    rng = np.random.default_rng(channels)
    x, w = signs(rng, 1, 4, 5, channels), signs(rng, 3, 2, 3, channels)
    got = evaluate(bnn.packed_conv2d, _packed(x, channels, bits), _packed(w, channels, bits), channels=channels, strides=(2, 1))
    np.testing.assert_array_equal(got, naive_conv2d(x, w, (2, 1), (0, 0, 0, 0), (1, 1), 1, 0))


@pytest.mark.parametrize("channels", [1, 31, 33, 64, 65])
def test_packed_conv2d_in_groups(channels):
    rng = np.random.default_rng(channels)
    x, w = signs(rng, 2, 4, 4, 2 * channels), signs(rng, 6, 3, 3, channels)
    got = evaluate(bnn.packed_conv2d, _packed(x, 2 * channels, 32, 2), _packed(w, channels, 32), channels=2 * channels, groups=2)
    np.testing.assert_array_equal(got, naive_conv2d(x, w, (1, 1), (0, 0, 0, 0), (1, 1), 2, 0))


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("channels", [1, 12, 33, 65])
def test_groups_may_stand_in_words_of_all_channels(channels, planes):
    rng = np.random.default_rng(channels)
    x = rng.choice(np.array([-1, 1] if planes == 1 else [-1, 0, 1], np.int8), (1, 4, 4, 4 * channels))
    w = signs(rng, 8, 3, 3, channels)
    words = _packed(x, 4 * channels, 32, planes=planes)
    got = evaluate(bnn.packed_conv2d, words, _packed(w, channels, 32), channels=4 * channels, groups=4, in_groups=1, planes=planes)
    np.testing.assert_array_equal(got, naive_conv2d(x, w, (1, 1), (0, 0, 0, 0), (1, 1), 4, 0))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channels", [1, 33, 64, 65])
def test_two_planes_convolve_codes_with_zeros(channels, groups):
    rng = np.random.default_rng(channels)
    x = rng.integers(-1, 2, (1, 4, 4, groups * channels)).astype(np.int8)
    w = signs(rng, 2 * groups, 3, 3, channels)
    words = _packed(x, groups * channels, 64, groups, planes=2)
    got = evaluate(bnn.packed_conv2d, words, _packed(w, channels, 64), channels=groups * channels, groups=groups, planes=2)
    np.testing.assert_array_equal(got, naive_conv2d(x, w, (1, 1), (0, 0, 0, 0), (1, 1), groups, 0))


@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
def test_border_takes_the_padded_taps_out_again(strides, dilation):
    rng = np.random.default_rng(0)
    channels, padding = 33, (2, 1, 1, 2)
    x, w = signs(rng, 1, 7, 6, channels), signs(rng, 4, 3, 3, channels)
    padded = np.pad(x, ((0, 0), (padding[0], padding[2]), (padding[1], padding[3]), (0, 0)), constant_values=1)
    rows, out_rows = border_classes(7, 3, strides[0], dilation[0], padding[0], padding[2])
    cols, out_cols = border_classes(6, 3, strides[1], dilation[1], padding[1], padding[3])
    # a padded tap counts as +1 times its weight: subtract the weights of all taps outside
    outside = out_rows[:, None, :, None] | out_cols[None, :, None, :]
    border = -np.einsum("rcij,oijk->rco", outside.astype(np.int32), w.astype(np.int32)).astype(np.int32)
    got = evaluate(
        bnn.packed_conv2d, _packed(padded, channels, 32), _packed(w, channels, 32), border, rows, cols, channels=channels, strides=strides, dilation=dilation
    )
    np.testing.assert_array_equal(got, naive_conv2d(x, w, strides, padding, dilation, 1, 0))


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("channels", CHANNELS)
def test_packed_dense_is_the_dot_product_of_signs(channels, planes):
    rng = np.random.default_rng(channels)
    x = signs(rng, 2, channels) if planes == 1 else rng.integers(-1, 2, (2, channels)).astype(np.int8)
    w = signs(rng, 3, channels)
    got = evaluate(bnn.packed_dense, _packed(x, channels, 64, planes=planes), _packed(w, channels, 64), channels=channels, planes=planes)
    np.testing.assert_array_equal(got, x.astype(np.int64) @ w.astype(np.int64).T)


def test_words_of_input_and_weights_are_the_same():
    with pytest.raises(ValueError, match="words of input and weights differ"):
        call_type(bnn.packed_conv2d, ((1, 4, 4, 1), "uint64"), ((2, 3, 3, 1), "uint32"), channels=32)


def test_a_tap_has_the_words_of_its_channels():
    with pytest.raises(ValueError, match="2 words a tap for 32 channels"):
        call_type(bnn.packed_conv2d, ((1, 4, 4, 2), "uint32"), ((2, 3, 3, 2), "uint32"), channels=32)


@pytest.mark.parametrize("attributes", [{"groups": 1}, {"groups": 2, "planes": 2}])
def test_a_pixel_has_the_words_of_all_groups_and_planes(attributes):
    with pytest.raises(ValueError, match="2 words a pixel"):
        call_type(bnn.packed_conv2d, ((1, 4, 4, 2), "uint32"), ((2, 3, 3, 1), "uint32"), channels=32 * attributes["groups"], **attributes)


def test_border_comes_with_its_classes():
    with pytest.raises(ValueError, match="border comes with"):
        call_type(bnn.packed_conv2d, ((1, 4, 4, 1), "uint32"), ((2, 3, 3, 1), "uint32"), ((1, 1, 2), "int32"), channels=32)


@pytest.mark.parametrize("border, rows", [((1, 1, 3), 2), ((1, 1, 2), 3)])
def test_border_fits_the_output(border, rows):
    types = [((1, 4, 4, 1), "uint32"), ((2, 3, 3, 1), "uint32"), (border, "int32"), ((rows,), "int32"), ((2,), "int32")]
    with pytest.raises(ValueError, match="border does not fit"):
        call_type(bnn.packed_conv2d, *types, channels=32)


@pytest.mark.parametrize("weights", [((3, 2), "uint64"), ((3, 1), "uint32")])
def test_packed_dense_weights_fit_the_input(weights):
    with pytest.raises(ValueError, match="differ in words"):
        call_type(bnn.packed_dense, ((1, 1), "uint64"), weights, channels=64)
