"""Majority tables: how the inputs of a dot product are taken in triples, at compile time for the weights and at run time for the activations.

Of three inputs x and weights w the number of differing bits is ``s + 2 m``: s the exclusive or of all six bits, m the majority of the three differences. m has
8 cases by the bits of one operand; a row of 8 words holds them for 32 lanes. The bits s are the inputs of the next level, so that n inputs need n / 2 rows,
each of weight 2, and leave one bit of weight 1::

    [x0 x1 x2] [x3 x4 x5] ...  ->  [s0 s1 s2] ...  ->  ...  ->  one bit
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from tvm import tirx

from bnncc.schedules.statements import Statements, const

__all__ = ["CASES", "TripleRows", "cases_of", "reduce_triples", "row_count", "row_words", "store_row"]

CASES = 8
"""Words of a row."""


def reduce_triples(items: Sequence, combine: Callable):
    """Reduce items to one, level by level: ``combine(group)`` of three or two neighbours gives an item of the next level."""
    while len(items) > 1:
        groups = [items[i : i + 3] for i in range(0, len(items), 3)]
        items = [combine(group) if len(group) > 1 else group[0] for group in groups]
    return items[0]


def row_count(inputs: int) -> int:
    """Return how many rows `inputs` inputs take."""
    rows = []
    reduce_triples(range(inputs), lambda group: rows.append(group) or 0)
    return len(rows)


def cases_of(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cases of channels of inputs, those of one channel together, then those of the bits that are left of all channels.

    Parameters
    ----------
    bits : ndarray, uint8, shape (outputs, channels, taps)

    Returns
    -------
    cases : ndarray, uint8, shape (outputs, rows)
        0 to 7: bit i is that of input i of the triple.
    parity : ndarray, uint8, shape (outputs,)
        The bit that is left.
    """
    rows = []

    def combine(group):
        rows.append(sum(bit << i for i, bit in enumerate(group)))
        parity = group[0]
        for bit in group[1:]:
            parity = parity ^ bit
        return parity

    left = [reduce_triples(list(np.moveaxis(bits[:, channel], -1, 0)), combine) for channel in range(bits.shape[1])]
    parity = reduce_triples(left, combine)
    return np.stack(rows, axis=1) if rows else np.zeros((len(bits), 0), np.uint8), parity


def row_words(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the rows of weights: majorities of bits of shape (rows, 32 lanes) in all 8 cases, uint32 of shape (rows, 8)."""
    words = []
    for case in range(CASES):
        x, y, z = a ^ (case & 1), b ^ (case >> 1 & 1), c ^ (case >> 2)
        majority = np.packbits(x & y | x & z | y & z, axis=-1, bitorder="little")
        words.append(np.ascontiguousarray(majority).view("<u4")[:, 0])
    return np.stack(words, axis=1)


def store_row(body: Statements, table, at, group: Sequence, lanes: int = 1):
    """Write the row of two or three words of activations and return their exclusive or; cases that differ in all three bits are complements.

    A word is an element of `table`, or so many `lanes` of them.
    """
    if len(group) == 2:
        element, _, count = str(group[0].ty.dtype).partition("x")
        group = (*group, const(0, element, int(count or 1)))
    a, b, c = group
    u, v = body.bind(tirx.bitwise_xor(a, b), "u"), body.bind(tirx.bitwise_xor(b, c), "v")
    low = body.bind(tirx.bitwise_xor(tirx.bitwise_and(u, v), b), "row")
    # v & ~u is (u & v) ^ v, and so on: from the first row one operation leads to each of the others
    next_low, high = body.bind(tirx.bitwise_xor(low, v), "row"), body.bind(tirx.bitwise_xor(low, u), "row")
    middle = body.bind(tirx.bitwise_xor(next_low, u), "row")
    # stored in order, so that two stores can be one instruction
    inverted = tirx.bitwise_not
    for case, word in enumerate((low, next_low, middle, inverted(high), high, inverted(middle), inverted(next_low), inverted(low))):
        body.store(table, at + case * lanes, word, lanes)
    return tirx.bitwise_xor(u, c)


class TripleRows:
    """Writes the rows of all triples of a group's inputs at run time: first those of every channel's taps, then those of what the channels leave.

    Parameters
    ----------
    body : Statements
    table, left : Buffer
        Rows, and a word for each channel: what it leaves.
    lanes : int
        Elements of a word.
    channels : int
    """

    def __init__(self, body: Statements, table, left, lanes: int, channels: int):
        self._body, self._table, self._left, self._lanes, self._channels = body, table, left, lanes, channels

    def of_channel(self, place, channel, taps: list[functools.partial]) -> None:
        """Write the rows of a channel, `place` times as many from the start of the table, and keep what it leaves; ``tap()`` gives the words of its taps."""
        number, each = iter(range(len(taps))), row_count(len(taps))

        def row(group):
            group = [item() if isinstance(item, functools.partial) else item for item in group]
            at = (place * each + next(number)) * CASES * self._lanes
            return self._body.bind(store_row(self._body, self._table, at, group, self._lanes), "sum")

        found = reduce_triples(taps, row)
        self._keep(channel, found() if isinstance(found, functools.partial) else found)

    def of_left(self, row: int = 0) -> None:
        """Write the rows of what the channels left, from one on; the bit that is left at last stands first then."""
        body, count = self._body, self._channels
        while count > 1:
            whole, rest = divmod(count, 3)

            def write(place, number, size):
                group = [body.bind(self._kept(3 * number + i), "x") for i in range(size)]
                self._keep(number, body.bind(store_row(body, self._table, place * CASES * self._lanes, group, self._lanes), "sum"))

            with body.loop(whole, "t") as t:
                write(row + t, t, 3)
            if rest == 2:
                write(row + whole, whole, 2)
            elif rest:
                self._keep(whole, self._kept(3 * whole))
            row, count = row + whole + (rest == 2), whole + (rest > 0)

    def _kept(self, number):
        return self._body.load(self._left, number * self._lanes, self._lanes)

    def _keep(self, number, value) -> None:
        self._body.store(self._left, number * self._lanes, value, self._lanes)
