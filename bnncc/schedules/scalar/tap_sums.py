"""Which taps of a row of a kernel are summed up beforehand, for all their signs, and what that costs.

Taps of one row that lie side by side are a *slot*: some columns of some channels. Of n taps there are ``2 ** (n - 1)`` sums ``a +- b +- c``; the others are
these, subtracted, where the code says so; where bytes do, they are made as well. All are made once for each column of a row of the input, and serve every
output channel, and every row of taps that comes to lie there. So wide slots cost sums, and RAM, once a column, and save additions for each output channel::

    3 channels, 3 columns:   [rgb][rgb][rgb]      4 sums a column    9 additions a channel (3 x 3 taps)
                             [rgbrgb][rgb]       32 + 4 sums         6 additions a channel
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Slot", "TapSums", "find_tap_sums"]

_MOST_TAPS = 6
"""Of a slot; twice as many sums with each more."""

_TABLE_BYTES = 8 * 1024

_LOOKUP = 2.0  # load, add
_FAR_LOOKUP = 3.0
_CHANNEL = 4.5  # start, the bit, its share of the words
_SUM = 2.3  # add, store
_TAP = 6.0  # of two pixels: load, join, store, load
_BYTE = 256
_NEAR_WORDS = 32
"""What instructions of 16 bits reach from an address on."""


@dataclass(frozen=True)
class Slot:
    """Taps whose sums are made beforehand.

    Parameters
    ----------
    columns : int
    first, channels : int
        Channels from `first` on.
    at : int
        Where the sums of a column begin among its words.
    is_whole : bool
        Whether sums of either sign are made, so that none is subtracted.
    """

    columns: int
    first: int
    channels: int
    at: int
    is_whole: bool = False

    @property
    def taps(self) -> int:
        """Taps, column by column."""
        return self.columns * self.channels

    @property
    def sums(self) -> int:
        """Words: that of the first tap and the others with either sign, or of all with either sign."""
        return 1 << (self.taps - (not self.is_whole))

    def turned(self, values: list) -> list:
        """Return those of the taps' values that take either sign, the bits of a case from the lowest on."""
        return values if self.is_whole else values[1:]

    def find(self, signs: np.ndarray) -> tuple[int, bool]:
        """Return the word of these signs, and whether it is to be subtracted.

        Parameters
        ----------
        signs : ndarray, shape (columns, channels)
            -1 and +1.
        """
        minus = signs.reshape(-1) < 0
        if self.is_whole:
            return self.at + int((minus << np.arange(len(minus))).sum()), False
        others = minus[1:] != minus[0]
        return self.at + int((others << np.arange(len(others))).sum()), bool(minus[0])


@dataclass(frozen=True)
class TapSums:
    """A way to cover the taps of a row.

    Parameters
    ----------
    slots : tuple of Slot
    lookups : tuple of (int, int)
        Number of the slot, and the column of the row that it begins with.
    words : int
        Of a column: the sums of all slots.
    """

    slots: tuple[Slot, ...]
    lookups: tuple[tuple[int, int], ...]
    words: int

    @property
    def name(self) -> str:
        """Taps of the lookups of a row, for notes and records."""
        return "+".join(str(self.slots[slot].taps) for slot, _ in self.lookups)

    @classmethod
    def of(cls, pieces: list[tuple[int, int, int, int]], is_whole: bool) -> TapSums:
        """Return the cover of pieces (column, columns, first channel, channels); those that differ in their column only share a slot."""
        slots: dict[tuple[int, int, int], Slot] = {}
        words = 0
        for _, *piece in pieces:
            if tuple(piece) not in slots:
                slots[tuple(piece)] = slot = Slot(*piece, words, is_whole)
                words += slot.sums
        order = list(slots)
        return cls(tuple(slots.values()), tuple((order.index(tuple(piece)), column) for column, *piece in pieces), words)


def _covers(columns: int, channels: int, is_whole: bool) -> list[TapSums]:
    """Return the ways to cover a row of taps: runs of columns of all channels, or single columns of some."""
    found = []
    for run in range(1, columns + 1):
        if run * channels <= _MOST_TAPS:
            found.append(TapSums.of([(at, min(run, columns - at), 0, channels) for at in range(0, columns, run)], is_whole))
    for chunk in range(1, min(channels - 1, _MOST_TAPS) + 1):
        pieces = [(column, 1, at, min(chunk, channels - at)) for column in range(columns) for at in range(0, channels, chunk)]
        found.append(TapSums.of(pieces, is_whole))
    return found


def find_tap_sums(
    taps: tuple[int, int], channels: int, outputs: int, width: int, stride: int, wanted: str, has_near_loads: bool, is_whole: bool = False
) -> dict[str, TapSums]:
    """Return the covers by name, what is to be taken by default first.

    Parameters
    ----------
    taps : tuple of int
        Height and width of the kernel.
    channels, outputs : int
    width : int
        Columns of the input that a row of the table holds.
    stride : int
        Columns of the input from one output to the next.
    wanted : str
        One of `OPTIMIZE_FOR`; the smallest table where it is RAM.
    has_near_loads : bool
        Whether loads reach `_NEAR_WORDS` words only.
    is_whole : bool
        Whether a byte says which sum is taken: it cannot be subtracted then.
    """

    def cost(sums: TapSums) -> tuple:
        size = 4 * taps[0] * width * sums.words
        span = (taps[1] - 1) * sums.words + max(slot.sums for slot in sums.slots)
        lookup = _FAR_LOOKUP if is_whole or has_near_loads and span > _NEAR_WORDS else _LOOKUP
        made = stride * sum(slot.sums * _SUM + slot.taps for slot in sums.slots) + stride * channels * _TAP
        instructions = outputs * (taps[0] * len(sums.lookups) * lookup + _CHANNEL) + made
        if wanted == "ram":
            return (sums.words, instructions)
        return (size > _TABLE_BYTES, instructions)

    most = (_BYTE // 4 if has_near_loads else _BYTE) if is_whole else math.inf  # where an index is not scaled, a byte counts bytes
    return {sums.name: sums for sums in sorted(_covers(taps[1], channels, is_whole), key=cost) if sums.words <= most}
