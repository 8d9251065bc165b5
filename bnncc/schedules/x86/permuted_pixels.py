"""Some pixels of an image, 32 at a time, by 8 output channels in a vector: the last rows that are too few for a vector of pixels, for `sliced_pixels`.

Of 28 rows of 28 pixels, 256 lanes hold nine, and one is left, which would take as long as nine, or all rows seven and seven. Of 32 pixels a row
of the table, its 8 cases, is one vector, and ``vpermd`` picks a case for each of 8 output channels from it, by the lowest three bits of a lane, so that a shift
leads from the cases of one row to those of the next::

    for every 32 pixels:
        triples of the inputs -> a vector of 8 cases each                        once for all output channels
        for 8 output channels:   counters += permute(row, word >> 3 i)           10 rows a word

Seven operations for 8 x 32 lanes, of which ``vpermd`` is two on Zen 3, where `sliced_pixels` has six for 256 pixels of one channel: 32 pixels take a quarter of
the time of 256. Images of 10 x 10 and 12 x 12 that consist of such pixels alone were as fast as with half empty vectors, and slower than `lookup`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.majority import CASES, TripleRows, row_count
from bnncc.schedules.formulations.vertical_pairs import PairCounter
from bnncc.schedules.group import Tensor
from bnncc.schedules.statements import const, reinterpret, spread
from bnncc.schedules.x86.lane_blocks import LaneBlocks
from bnncc.schedules.x86.pixel_bits import PixelBits

__all__ = ["PERMUTED_LANES", "PermutedPixels", "octets_of"]

PERMUTED_LANES = 32

_CHANNELS = 8
"""In a vector, as many as a row has cases."""

_VECTOR = 4
"""Words of 64 bits in a vector."""

_BITS = 3
_PER_WORD = 32 // _BITS
"""Cases of a word."""

_STRAIGHT = 5
"""Words of cases in straight-line code."""


def octets_of(values: np.ndarray, outputs: int) -> np.ndarray:
    """Pad the last axis of an array, channels of groups of `outputs`, to whole vectors of each: shape (..., vectors of all groups, 8)."""
    *others, channels = values.shape
    grouped = values.reshape(*others, channels // outputs, outputs)
    padded = np.pad(grouped, [*[(0, 0)] * (grouped.ndim - 1), (0, -outputs % _CHANNELS)])
    return padded.reshape(*others, channels // outputs * -(-outputs // _CHANNELS), _CHANNELS)


class PermutedPixels:
    """Writes the answers of a block, limits in the counters.

    Parameters
    ----------
    builder : Builder
    anchor : Tensor
    shape : BinaryShape
    block : LaneBlocks
        One block.
    lanes : int
        Of the vectors that its answers fill.
    planes : int
        Of a counter.
    word_at : callable
        As of `packed._write`.
    """

    def __init__(self, builder: Builder, anchor: Tensor, shape: BinaryShape, block: LaneBlocks, lanes: int, planes: int, word_at: Callable):
        self.body, self.shape, self.block, self.planes, self.lanes = builder.body, shape, block, planes, lanes
        taps = shape.taps[0] * shape.taps[1]
        self.rows = shape.inputs * row_count(taps) + row_count(shape.inputs)
        self.words = -(-self.rows // _PER_WORD)
        self.vectors = -(-shape.outputs // _CHANNELS)
        self.vector_bytes = 4 * _CHANNELS * self.words + 1
        self.bits = PixelBits(builder, anchor, shape, block, lanes, word_at)
        self.all_vectors = shape.groups * self.vectors

    # compile time

    @property
    def weight_bytes(self) -> int:
        """Bytes of the cases of all channels."""
        return self.all_vectors * self.vector_bytes

    def weights(self, cases: np.ndarray, parity: np.ndarray) -> np.ndarray:
        """Return the words of the cases (channels, rows) of 8 channels after those of 8 others, then a byte of the bits that are left, as bytes."""
        padded = np.pad(octets_of(cases.T, self.shape.outputs), ((0, -self.rows % _PER_WORD), (0, 0), (0, 0))).astype(np.uint32)
        fields = padded.reshape(self.words, _PER_WORD, self.all_vectors, _CHANNELS) << _BITS * np.arange(_PER_WORD, dtype=np.uint32)[:, None, None]
        words = np.bitwise_or.reduce(fields, axis=1).transpose(1, 0, 2)
        left = np.packbits(octets_of(parity, self.shape.outputs), axis=-1, bitorder="little")
        return np.concatenate([np.ascontiguousarray(words).view(np.uint8).reshape(self.all_vectors, self.vector_bytes - 1), left], axis=1).reshape(-1)

    def start_bytes(self, classes: int) -> int:
        """Return the bytes of what the counters start from, for so many classes of places."""
        return classes * self.all_vectors * self.planes

    def starts(self, bits: np.ndarray) -> np.ndarray:
        """Return the planes that counters start from, bits of shape (classes of rows, of columns, channels, planes), a byte for 8 channels."""
        found = octets_of(np.moveaxis(bits, -1, 2), self.shape.outputs)
        return np.packbits(found, axis=-1, bitorder="little")[..., 0].swapaxes(2, 3).reshape(-1)

    # run time

    def write(self, place: tuple, g, weights, starts, present: tuple | None, answers) -> None:
        """Write the answers of a group of the block at `place`, image, row and column.

        Parameters
        ----------
        weights, starts : tuple
            Buffer of bytes, and where in it those of `weights` and `starts` begin.
        present : tuple, optional
            As of `LaneClasses.present`.
        answers : Buffer
            Of uint32, `lanes` / 32 a channel.
        """
        body, shape = self.body, self.shape
        self.bits.allocate()
        self.bits.read(*place, g, 0)
        table, left = body.local("uint32", max(1, self.rows) * CASES, "table"), body.local("uint32", shape.inputs, "left")
        counters = body.local("uint64", self.planes * _VECTOR, "counters")
        rows = TripleRows(body, table, left, 1, shape.inputs)
        taps = [(i, j) for i in range(shape.taps[0]) for j in range(shape.taps[1])]
        pixels = (self.block.rows - 1) * self.block.pitch + self.block.width
        with body.loop(-(-pixels // PERMUTED_LANES), "unit") as unit:
            with body.loop(shape.inputs, "c") as c:
                rows.of_channel(c, c, [functools.partial(self.bits.few, c, *tap, unit) for tap in taps])
            rows.of_left(shape.inputs * row_count(len(taps)))
            with body.loop(self.vectors, "v") as v:
                vector = g * self.vectors + v
                for i, plane in enumerate(self._start(starts, vector, unit, present)):
                    body.store(counters, i * _VECTOR, plane, _VECTOR)
                answer = self._count(table, left, counters, weights[0], weights[1] + vector * self.vector_bytes)
                own = body.local("uint32", _CHANNELS, "own")
                body.store(own, 0, reinterpret(f"uint32x{_CHANNELS}", answer), _CHANNELS)
                for i in range(_CHANNELS):
                    if i < _CHANNELS - -shape.outputs % _CHANNELS:
                        self._keep(answers, g, v * _CHANNELS + i, unit, body.load(own, i))
                    else:
                        with body.when(v < self.vectors - 1):
                            self._keep(answers, g, v * _CHANNELS + i, unit, body.load(own, i))

    def _keep(self, answers, g, output, unit, value) -> None:
        self.body.store(answers, (g * self.shape.outputs + output) * (self.lanes // PERMUTED_LANES) + unit, value)

    def _spread_bits(self, byte):
        """Return bit i of a byte in all bits of lane i."""
        own = tirx.Shuffle([tirx.const(1 << i, "uint32") for i in range(_CHANNELS)], list(range(_CHANNELS)))
        ones, zeros = const((1 << 32) - 1, "uint32", _CHANNELS), const(0, "uint32", _CHANNELS)
        found = tirx.Select(tirx.EQ(tirx.bitwise_and(spread(tirx.Cast("uint32", byte), _CHANNELS), own), own), ones, zeros)
        return self.body.bind(reinterpret(f"uint64x{_VECTOR}", found), "spread")

    def _start(self, starts: tuple, vector, unit, present: tuple | None) -> list:
        """Return the planes that counters start from."""
        body, (buffer, first) = self.body, starts
        if present is None:
            return [self._spread_bits(body.load(buffer, first + vector * self.planes + i)) for i in range(self.planes)]
        numbers, lanes, count = present
        found = [body.local("uint64", _VECTOR, "start") for _ in range(self.planes)]
        for plane in found:
            body.store(plane, 0, const(0, "uint64", _VECTOR), _VECTOR)
        with body.loop(body.load(count, 0), "k") as k:
            word = body.load(lanes, k * (self.lanes // 64) + tirx.truncdiv(unit, 2))
            shift = tirx.Cast("uint64", tirx.truncmod(unit, 2) * PERMUTED_LANES)
            mask = spread(tirx.Cast("uint32", tirx.shift_right(word, shift)), _CHANNELS)
            mask = body.bind(reinterpret(f"uint64x{_VECTOR}", mask), "mask")
            at = body.bind(first + (body.load(numbers, k) * self.all_vectors + vector) * self.planes, "at")
            for i, plane in enumerate(found):
                body.store(plane, 0, body.load(plane, 0, _VECTOR) | (self._spread_bits(body.load(buffer, at + i)) & mask), _VECTOR)
        return [body.load(plane, 0, _VECTOR) for plane in found]

    def _count(self, table, left, counters, weights, at):
        """Add the rows of all inputs for 8 channels, whose words stand at `at`, and return the answers."""
        body = self.body
        chunks = max(0, self.rows - 1) // (_STRAIGHT * _PER_WORD)
        with body.loop(chunks, "chunk") as chunk:
            counter = self._add(table, counters, weights, at, chunk * _STRAIGHT, _STRAIGHT * _PER_WORD)
            counter.finish()
            for i, plane in enumerate(counter.planes, 1):
                if plane is not None:  # else it is as it was
                    body.store(counters, i * _VECTOR, plane, _VECTOR)
        counter = self._add(table, counters, weights, at, chunks * _STRAIGHT, self.rows - chunks * _STRAIGHT * _PER_WORD)
        parity = self._spread_bits(body.load(weights, at + self.vector_bytes - 1))
        odd = tirx.bitwise_xor(reinterpret(f"uint64x{_VECTOR}", spread(body.load(left, 0), _CHANNELS)), parity)
        # of the bits of weight 1, what they carry is all that matters
        counter.add(body.bind(tirx.bitwise_and(odd, body.load(counters, 0, _VECTOR)), "m"), 0)
        counter.finish()
        return counter.planes[-1]

    def _add(self, table, counters, weights, at, first, size: int) -> PairCounter:
        """Return a counter to which `size` rows from that of word `first` on were added."""
        body = self.body
        counter = PairCounter(body, lambda i: body.load(counters, (i + 1) * _VECTOR, _VECTOR), self.planes - 1)
        for i in range(size):
            if i % _PER_WORD == 0:
                word = body.load(weights, at + (first + i // _PER_WORD) * (4 * _CHANNELS), 4 * _CHANNELS)
                word = body.bind(reinterpret(f"uint32x{_CHANNELS}", word), "word")
            case = tirx.shift_right(word, const(i % _PER_WORD * _BITS, "uint32", _CHANNELS)) if i % _PER_WORD else word
            row = body.load(table, (first * _PER_WORD + i) * CASES, CASES)
            signed = [reinterpret(f"int32x{_CHANNELS}", value) for value in (row, case)]
            found = tirx.call_llvm_pure_intrin(f"int32x{_CHANNELS}", "llvm.x86.avx2.permd", *signed)
            counter.add(body.bind(reinterpret(f"uint64x{_VECTOR}", found), "w"), 0)
        return counter
