from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn

from .dialect import CHANNELS, call_type, evaluate, signs


@pytest.mark.parametrize("code", [-1, 0, 1])
def test_pad_writes_its_code_around_the_image(code):
    x = signs(np.random.default_rng(0), 1, 2, 3, 4)
    out = evaluate(bnn.pad, x, padding=(1, 2, 3, 0), code=code)
    assert out.shape == (1, 6, 5, 4)
    np.testing.assert_array_equal(out[:, 1:3, 2:], x)
    assert (out[:, 0] == code).all() and (out[:, 3:] == code).all() and (out[:, :, :2] == code).all()


def test_pad_repeats_the_edge():
    x = np.array([[[[1], [-1]], [[-1], [-1]]]], np.int8)
    assert evaluate(bnn.pad, x, padding=(1, 1, 0, 0), mode="edge")[0, :, :, 0].tolist() == [[1, 1, -1], [1, 1, -1], [-1, -1, -1]]


def test_pad_reflects_without_the_edge():
    x = np.array([[[[1], [-1], [-1]]]], np.int8)
    assert evaluate(bnn.pad, x, padding=(0, 2, 0, 0), mode="reflect")[0, 0, :, 0].tolist() == [-1, -1, 1, -1, -1]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_packed_pad_is_pad_on_words(channels, mode):
    rng = np.random.default_rng(channels)
    x, fill = signs(rng, 2, 3, 4, channels), signs(rng, channels)
    pack = {"channels": channels, "word_bits": 64}
    words = evaluate(bnn.packed_pad, evaluate(bnn.pack, x, **pack), evaluate(bnn.pack, fill, **pack), padding=(1, 2, 0, 1), mode=mode)
    if mode == "constant":
        want = np.tile(fill, (2, 4, 7, 1))
        want[:, 1:, 2:6] = x
    else:
        want = evaluate(bnn.pad, x, padding=(1, 2, 0, 1), mode=mode)
    np.testing.assert_array_equal(words, evaluate(bnn.pack, want, **pack))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("channels", CHANNELS)
def test_gather_channels_copies_channel_by_channel(channels, bits):
    rng = np.random.default_rng(channels)
    first, second = signs(rng, 2, 3, channels), signs(rng, 2, 3, 2 * channels)
    out_channels = 3 * channels + 1
    index = np.stack([rng.integers(0, 2, out_channels), np.zeros(out_channels, int)], 1).astype(np.int32)
    index[:, 1] = [rng.integers(0, (first, second)[i].shape[-1]) for i in index[:, 0]]
    want = np.stack([(first, second)[i][..., c] for i, c in index], -1)
    words = evaluate(
        bnn.gather_channels,
        index,
        evaluate(bnn.pack, first, channels=channels, word_bits=bits),
        evaluate(bnn.pack, second, channels=2 * channels, groups=2, word_bits=bits),
        in_channels=(channels, 2 * channels),
        in_groups=(1, 2),
        out_channels=out_channels,
        word_bits=bits,
    )
    np.testing.assert_array_equal(words, evaluate(bnn.pack, want, channels=out_channels, word_bits=bits))


def test_gather_channels_aligns_groups():
    x = signs(np.random.default_rng(0), 1, 66)
    index = np.stack([np.zeros(66), np.arange(66)], 1).astype(np.int32)
    words = evaluate(bnn.pack, x, channels=66, word_bits=32)
    out = evaluate(bnn.gather_channels, index, words, in_channels=(66,), in_groups=(1,), out_channels=66, out_groups=2, word_bits=32)
    np.testing.assert_array_equal(out, evaluate(bnn.pack, x, channels=66, groups=2, word_bits=32))


def test_gather_channels_has_a_row_a_channel():
    with pytest.raises(ValueError, match="index"):
        call_type(bnn.gather_channels, ((5, 2), "int32"), ((1, 1), "uint64"), in_channels=(6,), in_groups=(1,), out_channels=6)


def test_gather_channels_takes_words_of_the_channels_it_is_told():
    with pytest.raises(ValueError, match="does not hold 65 channels"):
        call_type(bnn.gather_channels, ((6, 2), "int32"), ((1, 1), "uint64"), in_channels=(65,), in_groups=(1,), out_channels=6)
