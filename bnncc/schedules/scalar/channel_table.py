"""Tables of weights for lanes of output channels, and the words of activations that find their rows.

The words of all taps of a pixel stand in a queue. Three are taken from its head and their exclusive or is appended, until one is left: every bit of three
words is a triple. The bits of the last word are taken in triples of pieces of itself, 11 + 4 + 2 + 1 of them, which leave a single bit. The same is done to
the weights.
"""

from __future__ import annotations

import numpy as np

from bnncc.schedules.formulations.majority import CASES, row_words

__all__ = ["BITS", "LAST_BIT", "LAST_PIECES", "LAST_ROWS", "bit_at", "queue_words", "table_of", "table_words", "triples"]

BITS = 32

LAST_PIECES = ((11, 0), (4, 11), (2, 15), (1, 17))
"""Bits of a third of the last word, and where they stand in its triple; then of their exclusive or, and so on."""

LAST_BIT = 18
"""Where the bit that is left stands in the first word of the last triple."""

LAST_ROWS = LAST_BIT


def queue_words(taps: int, inputs: int, word_bits: int) -> int:
    """Return how many words of 32 bits the inputs fill; each tap starts a word of `word_bits`."""
    return -(-taps * -(-inputs // word_bits) * word_bits // BITS)


def triples(words: int) -> int:
    """Return how often three words are taken until one is left; where two are left, the third is zero."""
    return words // 2


def bit_at(place: int) -> int:
    """Return the bit of a word whose case stands at a place: four bits 8 apart stand side by side."""
    return place % 4 * 8 + place // 4


def table_of(weights: np.ndarray) -> np.ndarray:
    """Build the table of 32 output channels.

    Parameters
    ----------
    weights : ndarray, uint8, shape (32, octets)
        All taps of each channel, a whole number of words of 32 bits.

    Returns
    -------
    ndarray, uint32, shape (words,)
        Rows of 8 words: for each triple of words its bits in the order of `bit_at`, then those of the last word; at the end the bit of weight 1 that is left.
    """
    bits = np.unpackbits(weights, axis=-1, bitorder="little").reshape(BITS, -1, BITS).transpose(1, 2, 0)
    queue = list(bits)
    if len(queue) % 2 == 0:
        queue.append(np.zeros_like(bits[0]))
    order = [bit_at(place) for place in range(BITS)]
    rows = []
    for t in range(triples(len(bits))):
        a, b, c = queue[3 * t : 3 * t + 3]
        queue.append(a ^ b ^ c)
        rows.append(row_words(a, b, c)[order])
    last = queue[-1]
    for size, _ in LAST_PIECES:
        thirds = [last[i * size : (i + 1) * size] for i in range(3)]
        a, b, c = (np.concatenate([third, np.zeros((size - len(third), BITS), np.uint8)]) for third in thirds)
        last = a ^ b ^ c
        rows.append(row_words(a, b, c))
    left = np.packbits(last[0], bitorder="little").view("<u4")
    return np.concatenate([np.concatenate(rows).reshape(-1), left]).astype(np.uint32)


def table_words(words: int) -> int:
    """Return how many words the table of 32 output channels has."""
    return (BITS * triples(words) + LAST_ROWS) * CASES + 1
