from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn

from .dialect import CHANNELS, call_type, evaluate, signs

GEOMETRY = [
    {"pool_size": (2, 2), "strides": (2, 2)},
    {"pool_size": (3, 2), "strides": (1, 2), "padding": (1, 1, 1, 0)},
    {"pool_size": (2, 2), "strides": (1, 1), "dilation": (2, 3)},
]


def _naive(x, flip, pool_size, strides, padding=(0, 0, 0, 0), dilation=(1, 1)):
    """Collect the values of each window that lie in the image, position by position."""
    n, h, w, c = x.shape
    oh = (h + padding[0] + padding[2] - dilation[0] * (pool_size[0] - 1) - 1) // strides[0] + 1
    ow = (w + padding[1] + padding[3] - dilation[1] * (pool_size[1] - 1) - 1) // strides[1] + 1
    out = np.zeros((n, oh, ow, c), np.int8)
    for y in range(oh):
        for z in range(ow):
            rows = [r for r in (y * strides[0] - padding[0] + i * dilation[0] for i in range(pool_size[0])) if 0 <= r < h]
            cols = [s for s in (z * strides[1] - padding[1] + j * dilation[1] for j in range(pool_size[1])) if 0 <= s < w]
            window = x[:, rows][:, :, cols]
            out[:, y, z] = np.where(flip > 0, window.max((1, 2)), window.min((1, 2)))
    return out


@pytest.mark.parametrize("attributes", GEOMETRY, ids=str)
def test_max_pool_takes_the_minimum_in_flipped_channels(attributes):
    rng = np.random.default_rng(0)
    x, flip = rng.integers(-7, 8, (2, 6, 7, 5)).astype(np.int8), np.array([1, -1, 1, -1, -1], np.int8)
    np.testing.assert_array_equal(evaluate(bnn.max_pool2d, x, flip, **attributes), _naive(x, flip, **attributes))


@pytest.mark.parametrize("attributes", GEOMETRY, ids=str)
@pytest.mark.parametrize("channels", CHANNELS)
def test_packed_max_pool_does_the_same_on_words(channels, attributes):
    rng = np.random.default_rng(channels)
    x, flip = signs(rng, 1, 6, 7, channels), signs(rng, channels)
    pack = {"channels": channels, "word_bits": 32}
    words = evaluate(bnn.packed_max_pool2d, evaluate(bnn.pack, x, **pack), evaluate(bnn.pack, flip, **pack), **attributes)
    np.testing.assert_array_equal(words, evaluate(bnn.pack, _naive(x, flip, **attributes), **pack))


@pytest.mark.parametrize("build", [bnn.max_pool2d, bnn.packed_max_pool2d])
def test_flip_has_one_entry_a_channel(build):
    with pytest.raises(ValueError, match="flip has shape"):
        call_type(build, ((1, 4, 4, 2), "uint32"), ((1,), "uint32"), pool_size=(2, 2), strides=(2, 2))
