"""Networks of byte interleavings (``punpckl``, ``zip``) that transpose small blocks held in vectors.

One round takes two vectors and interleaves their elements, within each 128 bits: what tells the two apart becomes the lowest bit of an element's place, and
the highest bit of the place tells the two results apart. So rounds rotate the bits of (vector, place) until those that were of the place are of the vector::

    8 channels x 8 pixels, uint16        [c2 c1 c0] [p2 p1 p0]  ->  [p2 c1 c0] [p1 p0 c2]  ->  [p2 p1 c0] [p0 c2 c1]  ->  [p2 p1 p0] [c2 c1 c0]
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from bnncc.schedules.statements import Statements

__all__ = ["deinterleave", "transpose_block"]

_ROUNDS = 4
"""As many as bits of a place among 16 bytes."""


def _halves(lanes: int, size: int) -> tuple[list[int], list[int]]:
    """Return which elements of two vectors, one behind the other, the low and the high interleaving take, within blocks of `size` elements."""
    low, high = [], []
    for start in range(0, lanes, size):
        for i in range(size // 2):
            low += [start + i, lanes + start + i]
            high += [start + size // 2 + i, lanes + start + size // 2 + i]
    return low, high


def _rounds(vectors: list, count: int, interleave) -> list:
    """Apply `count` rounds; ``interleave(a, b, half)`` gives half 0 or 1 of two vectors. The highest bit of a vector's number goes first, and around again."""
    bits = (len(vectors) - 1).bit_length()
    for number in range(count if bits else 0):
        step = 1 << (bits - 1 - number % bits)
        vectors = list(vectors)
        for low in (i for i in range(len(vectors)) if not i & step):
            a, b = vectors[low], vectors[low + step]
            vectors[low], vectors[low + step] = interleave(a, b, 0), interleave(a, b, 1)
    return vectors


def _written(body: Statements, lanes: int, size: int):
    """Return ``interleave`` of `_rounds` that writes the instruction."""
    halves = _halves(lanes, size)
    return lambda a, b, half: body.bind(tirx.Shuffle([a, b], halves[half]), "t")


def transpose_block(body: Statements, vectors: list, lanes: int) -> list:
    """Transpose as many vectors as 128 bits have elements, a power of two, within each 128 bits: vector i then has the elements of place i, of all vectors."""
    size = len(vectors)
    return _rounds(vectors, size.bit_length() - 1, _written(body, lanes, size))


def deinterleave(body: Statements, vectors: list, lanes: int) -> list:
    """Sort the bytes of 1, 2, 4 or 8 vectors, of as many bytes an item, by their number in the item, within each 128 bits."""
    found = _rounds(vectors, _ROUNDS, _written(body, lanes, 16))
    number = [labels[0] % len(vectors) for labels in _labels(len(vectors), lanes)]
    return [found[number.index(i)] for i in range(len(vectors))]


def _labels(count: int, lanes: int) -> list[np.ndarray]:
    """Send the numbers of all bytes through the network instead of bytes."""
    halves = _halves(lanes, 16)
    return _rounds(list(np.arange(count * lanes).reshape(count, lanes)), _ROUNDS, lambda a, b, half: np.concatenate([a, b])[halves[half]])
