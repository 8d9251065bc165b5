"""Tables and cases of the sliced formulation: how the bits of a dot product are taken in triples.

The words of all taps stand in a queue. Three words are taken from its head and their exclusive or is appended, until one word is left, or two: every bit of
three words is a triple. The bits of what is left are taken in triples of pieces of themselves, which leave a single bit::

    popcount(x ^ w) = 2 * (sum of maj(x0 ^ w0, x1 ^ w1, x2 ^ w2) over all triples) + (last bit of x ^ w)

    one word     64 bits are 22 triples, of what they leave 8, 3 and 1
    two words    128 bits are 43 triples, of what they leave 14, 5, 1 and 1: 64 triples, all places of three words; a third word of zeros beside them
                 would take 64 triples, and one word be left

What holds for x ^ w holds for both apart, as the exclusive or of three words is linear: the table follows the queue of the weights at compile time, the
cases (the three bits of x of a triple) that of the activations at run time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["case_place", "last_places", "last_thirds", "queue_words", "row_count", "table", "triples", "word_parts"]

_ONE_WORD = ((22, 0), (8, 22), (3, 30), (1, 33))
"""Bits of a third of the last word, and where they stand in its triple; then of their exclusive or, and so on."""

_LAST_BIT = {1: 34, 2: 4}
"""Where the bit that is left stands, by the words that were: of two words at the only triple of two bits, which is at the place of a whole 32nd row."""


def word_parts(inputs: int, word_bits: int) -> list[tuple[int, int, int]]:
    """Return the words of a tap in the order of the queue: (first word, words, bits of each that are taken).

    All taps of one part come before the next: of a last word that is half empty or more, 8, 16 or 32 bits are taken, so that taps share a word of the queue.
    """
    words = -(-inputs // word_bits)
    filled = next(size for size in (8, 16, 32, 64) if size >= inputs - (words - 1) * word_bits)
    if filled >= word_bits:
        return [(0, words, word_bits)]
    return [(0, words - 1, word_bits)] * (words > 1) + [(words - 1, 1, filled)]


def queue_words(taps: int, inputs: int, word_bits: int) -> int:
    """Return how many words of 64 bits the inputs fill, part by part."""
    return sum(-(-taps * count * bits // 64) for _, count, bits in word_parts(inputs, word_bits))


def triples(words: int) -> int:
    """Return how often three words are taken until one or two are left."""
    return (words - 1) // 2


def row_count(words: int) -> int:
    """Return how many rows the table of a queue of so many words has."""
    return 64 * triples(words) + len(last_places(words))


def last_places(words: int) -> list[int]:
    """Return where the cases of the last rows stand among those of `last_thirds`, in the order of the rows; the bit that is left comes last."""
    if words % 2:
        return [case_place(bit) for bit in range(_LAST_BIT[1] + 1)]
    return [*range(64), case_place(_LAST_BIT[2])]


def last_thirds(words: list, cut: Callable, up: Callable) -> tuple:
    """Return the three words whose bits are the triples of the last one or two words; the third has the bit that is left.

    Parameters
    ----------
    words : list
        Of 64 bits.
    cut, up : callable
        ``cut(word, first, size)``: some of the bits, from bit 0 on, zeros above. ``up(word, places)``: moved to higher places.
    """
    thirds = None

    def put(parts: list, place: int) -> None:
        nonlocal thirds
        thirds = list(parts) if thirds is None else [third | up(part, place) for third, part in zip(thirds, parts, strict=True)]

    if len(words) == 1:
        (left,) = words
        for size, place in _ONE_WORD:
            parts = [cut(left, i * size, size) for i in range(3)]
            put(parts, place)
            left = parts[0] ^ parts[1] ^ parts[2]
    else:
        low, high = words
        split = _LAST_BIT[2]  # where the third has no bit
        parts = [cut(low, 0, 43), cut(low, 43, 21) | up(cut(high, 0, 22), 21), cut(high, 22, split) | up(cut(high, 22 + split, 42 - split), split + 1)]
        put(parts, 0)
        left = parts[0] ^ parts[1] ^ parts[2]
        for size, place, alone in ((14, 43, 1), (5, 57, 0), (1, 62, 2)):
            parts = [cut(left, i * size, size) for i in range(3)]
            put(parts, place)
            joined = parts[0] ^ parts[1] ^ parts[2]
            left = joined | up(cut(left, 3 * size, alone), size) if alone else joined
        parts = [cut(left, i, 1) for i in range(3)]
        put(parts, 63)
        left = parts[0] ^ parts[1] ^ parts[2]
    return thirds[0], thirds[1], thirds[2] | up(left, _LAST_BIT[len(words)])


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
        A row for each bit of every triple of words in the order of `case_place`, then those of `last_places`; a row holds lanes / 8 bytes for each of
        the 8 cases.
    """
    bits = np.unpackbits(weights, axis=-1, bitorder="little").reshape(lanes, -1, 64).transpose(1, 2, 0)
    queue, count = list(bits), len(bits)
    rows = []
    order = np.argsort([case_place(bit) for bit in range(64)])
    for t in range(triples(count)):
        a, b, c = queue[3 * t : 3 * t + 3]
        queue.append(a ^ b ^ c)
        rows.append(_rows(a, b, c, in_order)[order])
    left = queue[3 * triples(count) :]
    a, b, c = last_thirds(left, _cut, _up)
    at = _LAST_BIT[len(left)]
    last, c[at] = c[at].copy(), 0
    found = _rows(a, b, c, in_order)
    found[at, 4:] = found[at, :4]  # the third bit of these cases is the one that is left
    rows.append(found[order[last_places(count)[:-1]]])
    rows.append(_pack(np.stack([last ^ (case >> 2) for case in range(8)])[None], in_order))
    return np.concatenate(rows).reshape(-1)


def _cut(bits: np.ndarray, first: int, size: int) -> np.ndarray:
    found = np.zeros_like(bits)
    part = bits[first : first + size]
    found[: len(part)] = part
    return found


def _up(bits: np.ndarray, places: int) -> np.ndarray:
    return np.concatenate([np.zeros_like(bits[:places]), bits[: len(bits) - places]])


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
