"""Small integers by signs, sums of four looked up: kernels and NumPy agree on every code range, at the ends of what bytes and words of 16 bits hold, too."""

from __future__ import annotations

import numpy as np
import pytest
from covering import in_turn
from group_runner import check_exact, group
from test_neon_kernels import NEON, emulated
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.conv2d import Conv2dAttrs, conv2d_reference, dense_reference
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.ops.sign_conv2d import SignConv2dAttrs, SignDenseAttrs, sign_conv2d_reference, sign_dense_reference
from bnncc.schedules import build_kernel
from bnncc.targets.x86 import V2, V3, V4, runs_here

CODES = [((0, 1, 1),), ((0, 3, 1),), ((-3, 3, 2),), ((-4, 3, 1),), ((-15, 15, 2),), ((0, 31, 1),), ((-100, 27, 1),), ((0, 255, 1),), ((-128, 127, 1),)]


def named(value) -> str:
    return getattr(value, "name", str(value))


def drawn(x_shape, w_shape, codes, ends=False):
    """Return codes, signs and their words; at their `ends` all codes of a half of the images are the least, the others the largest, and filters of one sign."""
    rng = np.random.default_rng(sum(w_shape))
    lo, hi, step = codes
    x = (lo + step * rng.integers(0, (hi - lo) // step + 1, x_shape)).astype(np.uint8 if hi > 127 else np.int8)
    signs = rng.choice(np.array([-1, 1], np.int8), w_shape)
    if ends:
        x[: len(x) // 2], x[len(x) // 2 :] = lo, hi
        signs[0::3], signs[1::3] = 1, -1
    return x, signs, pack_reference(PackAttrs(w_shape[-1], 1, 64), signs)


def convolution(x, words, codes, **attributes):
    return group(lambda b, x, w: bnn.sign_conv2d(x, w, codes=codes, **attributes), (x.shape, str(x.dtype)), (words.shape, "uint64"), constants=(1,))


def skip_elsewhere(variant):
    if variant != NEON and not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")


@pytest.mark.parametrize("groups", [1, 3])
def test_signs_are_what_integer_weights_are(groups):
    codes = (-8, 7, 1)
    x, signs, words = drawn((2, 6, 5, 9), (6, 3, 2, 9 // groups), codes)
    found = sign_conv2d_reference(SignConv2dAttrs((2, 1), (1, 2), groups, codes), x, words)
    np.testing.assert_array_equal(found, conv2d_reference(Conv2dAttrs((2, 1), (0, 0, 0, 0), (1, 2), groups, 0), x, signs))
    assert found.dtype == np.int32
    rows, signs, words = drawn((3, 70), (5, 70), codes)
    np.testing.assert_array_equal(sign_dense_reference(SignDenseAttrs(codes), rows, words), dense_reference(None, rows, signs))


@pytest.mark.parametrize("codes, variant", [*in_turn(CODES, [V2, V3, pytest.param(NEON, marks=emulated)], each=2), *in_turn(CODES, [V4])], ids=named)
def test_every_range_of_codes_is_exact_with_an_epilogue(codes, variant, tmp_path):
    skip_elsewhere(variant)
    x, _, words = drawn((1, 9, 8, 40), (42, 3, 3, 40), codes)
    rng = np.random.default_rng(1)
    thresholds, flip = np.sort(rng.integers(-200, 200, (3, 42)), axis=0).astype(np.int32), rng.choice(np.array([-1, 1], np.int8), 42)

    def emit(b, x, w, thresholds, flip):
        sums = b.emit(bnn.sign_conv2d(x, w, codes=codes))
        return bnn.quantize(sums, thresholds, flip, 0, 1), relax.op.multiply(b.emit(relax.op.astype(sums, "float32")), relax.const(0.5))

    arrays = [x, words, thresholds, flip]
    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays, tmp_path, variant)


@pytest.mark.parametrize(
    "ci, co, size, kernel, stride, dilation, groups, variant, codes",
    in_turn([
        (3, 20, 13, 3, 1, 1, 1), (5, 7, 8, 3, 2, 2, 1), (33, 33, 9, 3, 1, 1, 3), (130, 30, 8, 3, 1, 1, 1), (64, 48, 6, 1, 1, 1, 1), (32, 40, 5, 3, 1, 1, 1),
        (260, 60, 8, 3, 1, 1, 2), (1, 32, 9, 3, 1, 1, 1), (6, 40, 9, 3, 1, 2, 1), (10, 36, 9, 5, 1, 2, 2), (70, 66, 8, 1, 2, 1, 2), (24, 9, 20, 3, 1, 1, 1),
    ], [(V2, (0, 255, 1)), (V3, (-3, 4, 1)), (V3, (0, 255, 1))]),
    ids=named,
)  # fmt: skip
def test_convolutions_of_all_shapes_are_exact(ci, co, size, kernel, stride, dilation, groups, codes, variant, tmp_path):
    skip_elsewhere(variant)
    x, _, words = drawn((2, size, size, ci), (co, kernel, kernel, ci // groups), codes)
    function = convolution(x, words, codes, strides=(stride, stride), dilation=(dilation, dilation), groups=groups)
    check_exact(function, [x, words], tmp_path, variant)


@pytest.mark.parametrize(
    "codes, inputs",
    [
        ((0, 3, 1), 128), ((0, 3, 1), 22000), ((0, 7, 1), 9000), ((0, 15, 1), 2184), ((0, 15, 1), 2185), ((0, 15, 1), 4369), ((0, 15, 1), 4370),
        ((-128, 127, 1), 128), ((0, 255, 1), 129), ((-128, 127, 1), 257), ((0, 255, 1), 258), ((0, 255, 1), 4400),
    ],
)  # fmt: skip
def test_no_sum_runs_over_where_all_codes_and_signs_are_at_an_end(codes, inputs, tmp_path):
    """Sums of 15 * 2184 and 255 * 128 fit 15 bits, of 15 * 4369 and 255 * 257 sixteen; more are joined in 32."""
    skip_elsewhere(V3)
    x, _, words = drawn((64, inputs), (9, inputs), codes, ends=True)
    function = group(lambda b, x, w: bnn.sign_dense(x, w, codes), (x.shape, str(x.dtype)), (words.shape, "uint64"), constants=(1,))
    check_exact(function, [x, words], tmp_path, V3)


def test_weights_of_a_kernel_take_a_bit_each_beside_one_channel_and_constants():
    x, _, words = drawn((1, 8, 8, 64), (64, 3, 3, 64), (0, 15, 1))
    arranged = build_kernel(convolution(x, words, (0, 15, 1)), V3).relayout[1].arrange(words)
    assert arranged.nbytes == (64 + 2) * 9 * 64 // 8 + 4 * 64
