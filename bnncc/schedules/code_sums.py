"""Small integers by signs, lanes = pixels: the sums of all choices of four inputs, made once and looked up by the weights of every output channel.

With codes ``y = (x - lo) / step``, which are not negative, a sum by signs is that of the inputs whose weight is +1, twice, less the sum of all::

    sum(w x) / step = 2 sum(y where w = +1) - sum(y) + const

The 16 sums of a choice of four inputs, made for some vectors of pixels, serve all output channels, of each of which four bits of weights pick one. The sum of
all is one channel more, with all bits set. Where a few such sums fit a byte a vector has as many pixels as bytes; before bytes run over, they join sums of 16
bits: a word of two bytes is added to one, its higher byte to another, so that the first less 256 times the second is left of even pixels. More bits are summed
in words from the start, and where words run over these join sums of 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnncc.schedules.register_tile import Contraction

__all__ = ["CASES", "CHANNELS", "FOUR", "LARGEST_WORD", "QUADS", "ROW", "CodeSums"]

FOUR = 4
"""Inputs of a sum, and channels of a block of results that is transposed."""

CASES = 1 << FOUR
"""Choices of four inputs."""

ROW = 16
"""Inputs that are read together, of a pixel: as many bytes as are transposed."""

QUADS = 16
"""Whose sums exist at a time: the bits of a channel are one word."""

CHANNELS = 2
"""Output channels of a register tile, which share the table's address."""

_LARGEST_BYTE, LARGEST_WORD = 255, 65535


@dataclass(frozen=True)
class CodeSums:
    """How a contraction of `c.taps` runs of `c.depth` codes is cut.

    Parameters
    ----------
    c : Contraction
        Channels, eight lanes of them at least; tiles are of int16 where `is_narrow`.
    lo, top, step : int
        Codes are ``lo``, ``lo + step``, ... ``lo + top * step``; the step is a power of two.
    size : int
        Bytes of a vector.
    vectors : int
        Vectors of as many pixels as bytes that share a table.
    in_bytes : bool
        Whether sums of four are bytes, else words of 16 bits.
    """

    c: Contraction
    lo: int
    top: int
    step: int
    size: int
    vectors: int
    in_bytes: bool

    @property
    def runs(self) -> int:
        """Runs of inputs that are neighbours in memory."""
        return self.c.taps[0] * self.c.taps[1]

    @property
    def piece(self) -> int:
        """Neighbours that are loaded together."""
        return min(ROW, 1 << (self.c.depth.bit_length() - 1))

    @property
    def run_pieces(self) -> int:
        """Pieces of a run, of which the last may overlap the one before."""
        return -(-self.c.depth // self.piece)

    @property
    def rows(self) -> int:
        """Rows of `ROW` inputs."""
        return -(-self.runs * self.run_pieces * self.piece // ROW)

    @property
    def quads(self) -> int:
        """Sums of four for an output."""
        return self.rows * (ROW // FOUR)

    @property
    def chunk_rows(self) -> int:
        """Rows whose sums exist at a time."""
        return min(self.rows, QUADS * FOUR // ROW)

    @property
    def word_bytes(self) -> int:
        """Bytes of the bits of a channel in a chunk."""
        return 1 << (self.chunk_rows * ROW // 8 - 1).bit_length()

    @property
    def channels(self) -> int:
        """Output channels of a group, with those that fill the last vector, and pairs that begin with the sum of all."""
        return -(-(self.c.group_vectors * self.c.lanes + 1) // CHANNELS) * CHANNELS

    @property
    def flushed_quads(self) -> int:
        """Sums of four that a byte holds."""
        return _LARGEST_BYTE // (FOUR * self.top)

    @property
    def chunks(self) -> int:
        """Chunks, the last of which may be filled with zeros."""
        return -(-self.rows // self.chunk_rows)

    @property
    def span(self) -> int:
        """Chunks whose sums fit 16 bits."""
        most = max(1, LARGEST_WORD // (self.chunk_rows * ROW * self.top))
        if self.runs * self.c.depth * self.top <= LARGEST_WORD:
            return self.chunks
        return -(-self.chunks // -(-self.chunks // most))

    @property
    def is_narrow(self) -> bool:
        """Whether int16 holds every result."""
        return self.runs * self.c.depth * self.top <= LARGEST_WORD // 2

    @property
    def bits_size(self) -> int:
        """Bytes of the bits of all groups."""
        return self.c.groups * self.chunks * self.channels * self.word_bytes

    def arrange(self, bits: np.ndarray) -> np.ndarray:
        """Bring bits of weights, 1 for +1, shape (outputs, KH, KW, depth), into the order [group][chunk][channel], a word each, and constants behind them.

        Returns
        -------
        ndarray, uint8
            Last come int32 of each output channel: ``lo`` times the sum of its weights.
        """
        c, piece = self.c, self.piece
        runs = bits.reshape(c.groups, c.group_outputs, self.runs, c.depth).astype(np.uint8)
        runs = np.pad(runs, [(0, 0), (0, self.channels - c.group_outputs), (0, 0), (0, 0)])
        runs[:, c.group_vectors * c.lanes] = 1
        # the last piece of a run is read with inputs before it that were read already
        runs = np.insert(runs, [c.depth // piece * piece] * (-c.depth % piece), 0, axis=3)
        flat = runs.reshape(c.groups, self.channels, -1)
        flat = np.pad(flat, [(0, 0), (0, 0), (0, self.chunks * self.chunk_rows * ROW - flat.shape[2])])
        octets = np.packbits(flat.reshape(c.groups, self.channels, self.chunks, -1), axis=-1, bitorder="little")
        octets = np.pad(octets, [(0, 0)] * 3 + [(0, self.word_bytes - octets.shape[-1])]).transpose(0, 2, 1, 3)
        sums = 2 * bits.reshape(len(bits), -1).sum(1, dtype=np.int64) - bits[0].size
        return np.concatenate([octets.reshape(-1), (self.lo * sums).astype("<i4").view(np.uint8)])
