"""Sums and differences of codes against their NumPy meaning, bit for bit, at the ends of what halves of a word hold."""

from __future__ import annotations

import numpy as np
import pytest
from group_runner import group
from tvm import relax
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.ops.signed_sum_conv2d import signs_of, spell_signs
from bnncc.schedules import is_anchor
from bnncc.schedules.scalar.signed_sums import fits_halves
from bnncc.schedules.scalar.tap_sums import find_tap_sums
from tests.schedules.c_group import check_c, scalar

THUMB = scalar("scaled-index")
rng = np.random.default_rng(7)


def summed(x, w, codes, stride=1, padding=(0, 0, 0, 0), pad_code=0):
    """Return the operator on a variable."""
    return lambda v, weights: bnn.signed_sum_conv2d(v, weights, spell_signs(w), *codes, (stride, stride), padding, pad_code=pad_code)


def images(shape, dtype, codes):
    """Return codes: noise, then the least and the largest alone."""
    x = rng.integers(codes[0], codes[1] + 1, shape).astype(dtype)
    x[-1] = np.where(rng.random(shape[1:]) < 0.5, *codes).astype(dtype)
    return x


def check_bits(x, w, codes, thresholds, flip, folder, variant=THUMB, **geometry):
    """Check the convolution with a threshold a channel and packing."""

    def emit(b, v, weights, t, f):
        n = b.emit(summed(x, w, codes, **geometry)(v, weights))
        code = b.emit(bnn.quantize(n, t, f))
        return bnn.pack(code, len(w), word_bits=32)

    arrays = [x, w, thresholds, flip]
    return check_c(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays, folder, variant)


SHAPES = [
    # ci, co, height, width, kernel, stride, padding, dtype, codes, pad_code
    (3, 64, 9, 11, 3, 1, (0, 0, 0, 0), "uint8", (0, 255), 0),
    (3, 33, 7, 9, 3, 1, (1, 1, 1, 1), "uint8", (0, 255), 128),
    (3, 16, 9, 17, 3, 2, (1, 1, 1, 1), "uint8", (0, 255), 7),
    (3, 5, 8, 10, 3, 2, (0, 0, 1, 1), "int8", (-128, 127), 0),
    (3, 20, 7, 7, 5, 1, (2, 2, 2, 2), "uint8", (0, 255), 127),
    (4, 32, 8, 6, 5, 1, (0, 2, 1, 0), "int8", (-128, 127), -128),
    (4, 7, 6, 8, 3, 1, (1, 0, 0, 1), "uint8", (0, 15), 3),
    (1, 40, 9, 9, 3, 1, (1, 1, 1, 1), "uint8", (0, 255), 0),
    (1, 17, 11, 10, 5, 2, (2, 2, 2, 2), "int16", (-255, 255), 0),
    (2, 48, 6, 7, 3, 1, (1, 1, 1, 1), "int8", (-7, 7), 0),
    (2, 9, 9, 9, 2, 3, (0, 0, 0, 0), "uint8", (0, 255), 0),  # rows that no tap reads
    (3, 10, 4, 4, 3, 1, (4, 4, 4, 4), "uint8", (0, 255), 255),  # outputs of padding alone
    (3, 12, 3, 2, 1, 1, (0, 0, 0, 0), "uint8", (0, 255), 0),
    (3, 6, 3, 1, 3, 1, (1, 1, 1, 1), "uint8", (0, 255), 0),  # one pixel a row, in both halves
]


OTHERS = [
    (scalar("two-operands", registers=8), "2 pixels, signs in the code", (1, 5)),
    (scalar(optimize_for="ram"), "2 pixels, signs in the code", (8, 9)),
    (scalar("scaled-index", optimize_for="flash"), "2 pixels, signs in bytes", (1, 2, 8)),
    (scalar("two-operands", registers=8, optimize_for="flash"), "2 pixels, signs in bytes", (1, 5)),
    (scalar("scaled-index", "mve"), "8 pixels, signs in the code", (0, 2, 7)),
    (scalar("scaled-index", "mve", optimize_for="flash"), "8 pixels, signs in bytes", (1, 2)),
]


@pytest.mark.parametrize(
    "variant, note, ci, co, height, width, kernel, stride, padding, dtype, codes, pad_code",
    [(THUMB, "signs in the code", *shape) for shape in SHAPES] + [(variant, note, *SHAPES[i]) for variant, note, shapes in OTHERS for i in shapes],
)
def test_thresholds_of_either_direction_are_exact(variant, note, ci, co, height, width, kernel, stride, padding, dtype, codes, pad_code, tmp_path):
    x = images((2, height, width, ci), dtype, codes)
    w = rng.choice(np.array([-1, 1], np.int8), (co, kernel, kernel, ci))
    w[0], w[-1] = 1, -1
    reach = kernel * kernel * ci * (codes[1] - codes[0])
    thresholds = rng.integers(-reach // 4, reach // 4 + 1, (1, co)).astype(np.int32)
    thresholds[0, :2] = np.iinfo(np.int32).max, np.iinfo(np.int32).min
    flip = rng.choice(np.array([-1, 1], np.int8), co)
    made = check_bits(x, w, codes, thresholds, flip, tmp_path, variant, stride=stride, padding=padding, pad_code=pad_code)
    assert "thresholds in the starts" in made.note and note in made.note


def test_the_largest_sums_that_halves_hold_meet_every_limit(tmp_path):
    """128 taps of a range of 255: every channel's sum and limit are at its ends."""
    x = np.zeros((2, 2, 33, 64), np.uint8)
    x[1] = 255
    w = np.ones((4, 1, 2, 64), np.int8)
    w[1], w[3] = -1, -1
    thresholds, flip = np.array([[255 * 128, -255 * 128, 1, 0]], np.int32), np.array([1, -1, -1, 1], np.int8)
    made = check_bits(x, w, (0, 255), thresholds, flip, tmp_path)
    assert "thresholds in the starts" in made.note


def test_one_threshold_for_all_channels_stands_in_the_code(tmp_path):
    x, w = images((2, 5, 6, 3), "uint8", (0, 255)), rng.choice(np.array([-1, 1], np.int8), (16, 3, 3, 3))

    def emit(b, v, weights):
        n = b.emit(summed(x, w, (0, 255))(v, weights))
        code = b.emit(bnn.quantize(n, relax.const(np.array([11], np.int32)), relax.const(np.int8(-1))))
        return bnn.pack(code, 16, word_bits=32)

    check_c(group(emit, (x.shape, "uint8"), (w.shape, "int8"), constants=(1,)), [x, w], tmp_path, THUMB)


@pytest.mark.parametrize(
    "variant, kernel, ci, note",
    [
        (THUMB, 3, 3, "2 pixels, signs in the code"),
        (THUMB, 7, 4, "2 pixels, signs in the code"),
        (scalar("scaled-index", optimize_for="flash"), 3, 4, "2 pixels, signs in bytes"),
        (scalar("scaled-index", "mve"), 3, 3, "8 pixels, signs in the code"),
    ],
)
def test_other_epilogues_get_the_sums(variant, kernel, ci, note, tmp_path):
    """Codes of several bits, and sums that need the sixteenth bit."""
    x = images((2, 9, 10, ci), "uint8", (0, 255))
    w = rng.choice(np.array([-1, 1], np.int8), (11, kernel, kernel, ci))
    thresholds = np.sort(rng.integers(-3000, 3000, (3, 11)).astype(np.int32), axis=0)
    flip = rng.choice(np.array([-1, 1], np.int8), 11)

    def emit(b, v, weights, t, f):
        n = b.emit(summed(x, w, (0, 255), padding=(1, 1, 1, 1), pad_code=9)(v, weights))
        code = b.emit(bnn.quantize(n, t, f, 0, 1))
        return b.emit(R.astype(code, "int16")), n

    arrays = [x, w, thresholds, flip]
    made = check_c(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3)), arrays, tmp_path, variant)
    assert f"{note}, sums in memory" in made.note


def test_bits_of_sums_that_need_the_sixteenth_bit_take_the_other_way(tmp_path):
    x, w = images((2, 8, 9, 3), "uint8", (0, 255)), rng.choice(np.array([-1, 1], np.int8), (5, 7, 7, 3))
    assert fits_halves(147, 0, 255) and not fits_halves(258, 0, 255)
    made = check_bits(x, w, (0, 255), np.zeros((1, 5), np.int32), np.ones(5, np.int8), tmp_path)
    assert "sums in memory" in made.note


def test_words_are_joined_in_the_windows_of_a_pool(tmp_path):
    x, w = images((2, 8, 8, 3), "uint8", (0, 255)), rng.choice(np.array([-1, 1], np.int8), (40, 3, 3, 3))

    def emit(b, v, weights, t, f, pooled):
        n = b.emit(summed(x, w, (0, 255), padding=(1, 1, 1, 1))(v, weights))
        words = b.emit(bnn.pack(b.emit(bnn.quantize(n, t, f)), 40, word_bits=32))
        return bnn.packed_max_pool2d(words, pooled, (2, 2), (2, 2))

    arrays = [x, w, rng.integers(-900, 900, (1, 40)).astype(np.int32), rng.choice(np.array([-1, 1], np.int8), 40), np.array([0, 0xFFFF0000], np.uint32)]
    check_c(group(emit, *((a.shape, str(a.dtype)) for a in arrays), constants=(1, 2, 3, 4)), arrays, tmp_path, THUMB)


def test_signs_are_spelled_and_read_back():
    w = rng.choice(np.array([-1, 1], np.int8), (5, 3, 3, 3))
    call = bnn.signed_sum_conv2d(relax.Var("x", relax.TensorType((1, 4, 4, 3), "uint8")), relax.const(w), spell_signs(w), 0, 255)
    np.testing.assert_array_equal(signs_of(call.attrs, w.shape), w)
    assert is_anchor(relax.BlockBuilder().normalize(call))


def test_tables_are_wide_where_many_channels_share_them_and_small_where_memory_is_short():
    def first(outputs, width, wanted, near=False):
        return next(iter(find_tap_sums((3, 3), 3, outputs, width, 1, wanted, near)))

    assert first(64, 17, "speed") == "6+3" and first(4, 17, "speed") == "3+3+3"
    assert first(64, 200, "speed") != "6+3", "too many bytes"
    assert first(64, 17, "ram") != "6+3" and first(64, 17, "speed", near=True) == "3+3+3"
