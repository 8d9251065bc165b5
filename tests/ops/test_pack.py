from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from bnncc.ops.pack import tail_mask

from .dialect import CHANNELS, call_type, evaluate, signs, word_of

WORDS = [8, 16, 32, 64]


@pytest.mark.parametrize("bits", WORDS)
@pytest.mark.parametrize("channels", CHANNELS)
def test_bit_j_of_word_k_is_channel_k_times_word_plus_j(channels, bits):
    x = signs(np.random.default_rng(channels), 2, 3, channels)
    words = evaluate(bnn.pack, x, channels=channels, word_bits=bits)
    assert words.dtype == f"uint{bits}" and words.shape == (2, 3, -(-channels // bits))
    for row, packed in zip(x.reshape(-1, channels).tolist(), words.reshape(6, -1).tolist()):
        assert packed == [word_of(row[k : k + bits]) for k in range(0, channels, bits)]


@pytest.mark.parametrize("channels", CHANNELS)
def test_every_group_starts_a_word(channels):
    x = signs(np.random.default_rng(channels), 1, 3 * channels)
    words = evaluate(bnn.pack, x, channels=3 * channels, groups=3, word_bits=32)
    one_by_one = [evaluate(bnn.pack, part, channels=channels, word_bits=32) for part in np.split(x, 3, axis=-1)]
    np.testing.assert_array_equal(words, np.concatenate(one_by_one, axis=-1))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_unpack_undoes_pack(channels, groups):
    x = signs(np.random.default_rng(channels), 2, 2, groups * channels)
    words = evaluate(bnn.pack, x, channels=groups * channels, groups=groups)
    np.testing.assert_array_equal(evaluate(bnn.unpack, words, channels=groups * channels, groups=groups), x)


def test_two_planes_hold_below_zero_and_not_above_zero():
    x = np.array([[-1, 0, 1, 0]], np.int8)
    words = evaluate(bnn.pack, x, channels=4, word_bits=8, planes=2)
    assert words.tolist() == [[0b0001, 0b1011]]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_unpack_undoes_pack_of_two_planes(channels, groups):
    x = np.random.default_rng(channels).integers(-1, 2, (2, 2, groups * channels)).astype(np.int8)
    words = evaluate(bnn.pack, x, channels=groups * channels, groups=groups, planes=2)
    np.testing.assert_array_equal(evaluate(bnn.unpack, words, channels=groups * channels, groups=groups, planes=2), x)


@pytest.mark.parametrize("channels", CHANNELS)
def test_tail_mask_covers_the_channels_and_nothing_else(channels):
    assert [int(w).bit_count() for w in tail_mask(2 * channels, 2, 64)] == [min(64, channels - k) for _ in range(2) for k in range(0, channels, 64)]


def test_pack_takes_int8_only():
    with pytest.raises(ValueError, match="codes must be int8"):
        call_type(bnn.pack, ((2, 64), "float32"), channels=64)


@pytest.mark.parametrize("attributes", [{"channels": 65}, {"channels": 64, "groups": 3}])
def test_pack_takes_the_channels_it_is_told(attributes):
    with pytest.raises(ValueError, match="does not hold"):
        call_type(bnn.pack, ((2, 64), "int8"), **attributes)


def test_pack_knows_one_and_two_planes():
    with pytest.raises(ValueError, match="3 planes"):
        call_type(bnn.pack, ((2, 64), "int8"), channels=64, planes=3)


def test_unpack_takes_words_of_its_width():
    with pytest.raises(ValueError, match="words of 64 bits"):
        call_type(bnn.unpack, ((2, 2), "uint32"), channels=64)


@pytest.mark.parametrize("attributes", [{"channels": 65}, {"channels": 64, "planes": 2}])
def test_unpack_takes_as_many_words_as_the_channels_fill(attributes):
    with pytest.raises(ValueError, match="does not hold"):
        call_type(bnn.unpack, ((2, 1), "uint64"), **attributes)
