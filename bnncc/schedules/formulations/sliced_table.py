"""Tables and cases of the sliced formulation: how the bits of a dot product are taken in triples.

The words of all taps stand in a queue. Three words are taken from its head and their exclusive or is appended, until one word is left: every bit of three
words is a triple. The bits of the last word are taken in triples of pieces of itself, 22 + 8 + 3 + 1 triples, which leave a single bit::

    popcount(x ^ w) = 2 * (sum of maj(x0 ^ w0, x1 ^ w1, x2 ^ w2) over all triples) + (last bit of x ^ w)

What holds for x ^ w holds for both apart, as the exclusive or of three words is linear: the table follows the queue of the weights at compile time, the
cases (the three bits of x of a triple) that of the activations at run time.
"""

from __future__ import annotations

import numpy as np

__all__ = ["LAST_BIT", "LAST_PIECES", "LAST_ROWS", "case_place", "queue_words", "table", "triples"]

LAST_PIECES = ((22, 0), (8, 22), (3, 30), (1, 33))
"""Bits of a third of the last word, and where they stand in its triple; then of their exclusive or, and so on."""

LAST_BIT = 34
"""Where the bit that is left stands in the last triple."""

LAST_ROWS = LAST_BIT + 1


def queue_words(taps: int, inputs: int, word_bits: int) -> int:
    """Return how many words of 64 bits the inputs fill; each tap starts a word of `word_bits`."""
    return -(-taps * -(-inputs // word_bits) * word_bits // 64)


def triples(words: int) -> int:
    """Return how often three words are taken until one is left; where two are left, the third is zero."""
    return words // 2


def case_place(bit: int) -> int:
    """Return where the case of a bit stands among the 64 of a triple of words: bits 8 apart stand side by side."""
    return bit % 8 * 8 + bit // 8


def table(weights: np.ndarray, lanes: int, in_order: bool = False) -> np.ndarray:
    """Build the table of one vector of output channels.

    Parameters
    ----------
    weights : ndarray, uint8, shape (lanes, words of 8 bits)
        All taps of each channel, a whole number of words of 64 bits.
    lanes : int
        Output channels, a multiple of 8. Channel ``r * lanes / 8 + i`` is bit r of byte i, as the transposition of planes has it;
    in_order : bool
        or channel ``8 i + r``, as words of channels have it.

    Returns
    -------
    ndarray, uint8, one-dimensional
        A row for each bit of every triple of words in the order of `case_place`, then LAST_ROWS for the last word in order of bits; a row
        holds lanes / 8 bytes for each of the 8 cases.
    """
    bits = np.unpackbits(weights, axis=-1, bitorder="little").reshape(lanes, -1, 64).transpose(1, 2, 0)
    queue = list(bits)
    if len(queue) % 2 == 0:
        queue.append(np.zeros_like(bits[0]))
    rows = []
    order = np.argsort([case_place(bit) for bit in range(64)])
    for t in range(triples(len(bits))):
        a, b, c = queue[3 * t : 3 * t + 3]
        queue.append(a ^ b ^ c)
        rows.append(_rows(a, b, c, in_order)[order])
    last = queue[-1]
    for size, _ in LAST_PIECES:
        a, b, c = (np.concatenate([piece, np.zeros((size - len(piece), lanes), np.uint8)]) for piece in (last[:size], last[size : 2 * size], last[2 * size :]))
        last = a ^ b ^ c
        rows.append(_rows(a, b, c, in_order))
    # the last bit counts once; its case has only bit 0, the other cases do not occur
    rows.append(_pack(np.stack([last ^ (case & 1) for case in range(8)], axis=1), in_order))
    return np.concatenate(rows).reshape(-1)


def _rows(a: np.ndarray, b: np.ndarray, c: np.ndarray, in_order: bool) -> np.ndarray:
    """Return the majorities of bits of shape (rows, lanes) in all 8 cases: (rows, 8, lanes / 8) bytes."""
    cases = []
    for case in range(8):
        x, y, z = a ^ (case & 1), b ^ (case >> 1 & 1), c ^ (case >> 2)
        cases.append(x & y | x & z | y & z)
    return _pack(np.stack(cases, axis=1), in_order)


def _pack(bits: np.ndarray, in_order: bool) -> np.ndarray:
    if in_order:
        return np.packbits(bits, axis=-1, bitorder="little")
    split = bits.reshape(*bits.shape[:-1], 8, -1)
    return np.packbits(split, axis=-2, bitorder="little")[..., 0, :]
