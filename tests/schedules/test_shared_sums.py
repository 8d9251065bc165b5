"""Trees of shared sums against the sums of each channel."""

from __future__ import annotations

import numpy as np
import pytest

from bnncc.schedules.scalar.shared_sums import SharedSum, share_sums

rng = np.random.default_rng(3)


def evaluate(node: SharedSum, table: np.ndarray, above: int = 0) -> tuple[dict[int, int], int]:
    """Return the sums of channels, and how many words were added or subtracted."""
    def total(terms):
        return sum((-1 if term.is_minus else 1) * int(table[term.slot, term.word]) for term in terms)

    here, found, words = above + total(node.terms), {}, len(node.terms)
    for channel in node.channels:
        assert channel.number not in found
        found[channel.number] = (-here if channel.is_negated else here) + total(channel.terms)
        words += len(channel.terms)
    for further in node.sums:
        more, count = evaluate(further, table, here)
        assert not found.keys() & more.keys()
        found |= more
        words += count
    return found, words


@pytest.mark.parametrize("channels, slots, choices", [(32, 3, 4), (16, 9, 4), (32, 25, 4), (5, 1, 2), (1, 6, 32)])
def test_each_channel_gets_its_sum(channels, slots, choices):
    words, minus = rng.integers(0, choices, (channels, slots)), rng.random((channels, slots)) < 0.5
    words[-1], minus[-1] = words[0], ~minus[0]  # the opposite of the first
    table = rng.integers(-1000, 1000, (slots, choices))
    expected = (np.where(minus, -1, 1) * table[np.arange(slots), words]).sum(1)
    found, _ = evaluate(share_sums(words, minus), table)
    assert [found[o] for o in range(channels)] == expected.tolist()


def test_opposite_channels_share_all_and_different_ones_nothing():
    table = np.arange(12).reshape(3, 4)
    words, minus = np.array([[1, 2, 3]] * 4), np.array([[0, 0, 1], [1, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    assert evaluate(share_sums(words, minus), table)[1] == 3
    assert evaluate(share_sums(words, minus, 5), table)[1] == 12
    apart = share_sums(np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2]]), np.zeros((3, 3), bool))
    assert not apart.sums and [channel.number for channel in apart.channels] == [0, 1, 2]


def test_what_most_channels_have_in_common_comes_first():
    words = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 0]])
    root = share_sums(words, np.zeros((4, 3), bool))
    (shared,) = root.sums
    assert [(term.slot, term.word, term.is_minus) for term in shared.terms] == [(0, 0, False), (1, 0, False)]
    assert [channel.number for channel in shared.channels] == [0, 1, 2] and [channel.number for channel in root.channels] == [3]
