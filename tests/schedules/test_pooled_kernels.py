"""Groups that end with a maximum on words, as C on this machine: the words are joined as they are made."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from tests.schedules.c_group import check_c, scalar
from tests.schedules.group_runner import group, words
from tests.schedules.test_popcount_kernels import conv_bits

WAYS = {"speed": scalar("scaled-index"), "bytes": scalar("two-operands", registers=8), "trees": scalar("scaled-index", optimize_for="ram")}


def pooled(ci: int, co: int, size: int, pool_size=(2, 2), strides=(2, 2), padding=(0, 0, 0, 0), number: bool = False):
    """A convolution with thresholds, packing and a maximum, the minimum in half of the channels; a number in between keeps it from sliced kernels."""
    rng = np.random.default_rng(ci)
    _, arrays = conv_bits(rng, ci, co, size, bits=32, out_bits=32)
    arrays = [*arrays[:2], rng.integers(-30, 31, (1, co)).astype(np.int32), rng.choice(np.array([-1, 1], np.int8), co), words(rng, (), 32, co)]

    def emit(b, x, w, t, f, flip):
        sums = b.emit(bnn.packed_conv2d(x, w, channels=ci, strides=(1, 1), dilation=(1, 1), groups=1))
        sums = b.emit(sums + sums) if number else sums
        return bnn.packed_max_pool2d(b.emit(bnn.pack(b.emit(bnn.quantize(sums, t, f)), channels=co, word_bits=32)), flip, pool_size, strides, padding)

    return group(emit, *((array.shape, str(array.dtype)) for array in arrays), constants=(1, 2, 3, 4)), arrays


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ci, co, size", [(33, 40, 12), (64, 64, 6)])
def test_maxima_of_bits_are_exact(ci, co, size, way, tmp_path):
    check_c(*pooled(ci, co, size), tmp_path, WAYS[way])


@pytest.mark.parametrize(
    "options", [{"pool_size": (3, 2), "strides": (3, 2)}, {"pool_size": (2, 2), "strides": (3, 3)}, {"padding": (1, 1, 0, 0)}, {"number": True}], ids=str
)
def test_maxima_that_leave_pixels_out_or_are_padded_are_exact(options, tmp_path):
    check_c(*pooled(35, 33, 13, **dict(options)), tmp_path, WAYS["speed"])


OVERLAPPING = [
    {"pool_size": (3, 3), "strides": (2, 2)},
    {"pool_size": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)},
    {"pool_size": (3, 3), "strides": (1, 1), "padding": (1, 1, 1, 1)},
    {"pool_size": (2, 2), "strides": (1, 1)},
    {"pool_size": (2, 5), "strides": (3, 2), "padding": (0, 2, 1, 1)},
    {"pool_size": (4, 3), "strides": (3, 1), "padding": (0, 0, 0, 2)},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", OVERLAPPING, ids=str)
def test_maxima_of_windows_that_overlap_are_exact(options, way, tmp_path):
    check_c(*pooled(35, 33, 12, **options), tmp_path, WAYS[way])
