"""Real activations by signs, lanes = pixels: sums of four inputs under all signs, made once and looked up by the weights of every output channel.

Four inputs and four signs have 16 sums, half of them the other half's negatives. Made for a few vectors of pixels they serve all output channels, of each of
which four bits of weights pick one::

    for some vectors of pixels:
        for every 64 inputs or fewer:
            table[four inputs][signs][pixel] = +-a +-b +-c +-d          16 KB, in the L1 cache
            for two channels:   sums[channel][pixel] += table[four inputs][bits of the channel][pixel], ...
        sums -> tile                                                    transposition of 4 x 4

An addition does the work of four, and no weight is ever expanded: where multiply-adds bound a float convolution at two vectors of MAC a cycle, loads bound this
one at eight (on AVX2: 51 and 200 GMAC/s on Zen 3). Up to 117 are reached; transposing the inputs and writing the table, 40 instructions for four inputs of a
vector of pixels, take a third of the time at 64 channels. The sums are real ones, rounded in another order than others'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.code_sums import CASES, CHANNELS, FOUR
from bnncc.schedules.formulations.interleave import transpose_block
from bnncc.schedules.register_tile import Contraction, TileShape, pixel_tiles, tile_stride
from bnncc.schedules.statements import Statements, const, quotient_and_remainder, reinterpret, spread

__all__ = ["MOST_PIXELS", "SignSums", "arrange_quads", "sign_sums", "sums_pay"]

_TABLE_BYTES = 16 * 1024

_STRAIGHT = 64
"""Additions of straight-line code: twice as many take four times as long to compile."""

_STATIC_QUADS = 16
"""So many are straight-line code, whose inputs may come from anywhere; of more of them none reaches over the end of a run."""

MOST_PIXELS = 128
"""Of a tile."""

_LEAST_CHANNELS = 32
_LEAST_INPUTS = 9
"""Where it was measured to be faster than multiplication, with a margin: 16 channels of 3 inputs were even, 8 slower."""


def sums_pay(c: Contraction) -> bool:
    """Tell whether output channels are enough to share the table, and whether inputs lie as the generator wants them."""
    fitting = c.depth >= FOUR or c.taps[0] * c.taps[1] * c.depth <= FOUR * _STATIC_QUADS
    return fitting and c.group_outputs >= _LEAST_CHANNELS and c.tap_count >= _LEAST_INPUTS


def sign_sums(builder: Builder, c: Contraction) -> SignSums:
    """Return how a contraction is cut."""
    return SignSums(c, builder.choices.choose("pixel vectors", 2 if c.lanes > FOUR else 4, (1, 2, 4)))


@dataclass(frozen=True)
class SignSums:
    """How a contraction of `c.taps` runs of `c.depth` inputs is cut.

    Parameters
    ----------
    c : Contraction
        Float lanes of channels, all of them one block.
    vectors : int
        Vectors of pixels that share a table.
    """

    c: Contraction
    vectors: int

    @property
    def runs(self) -> int:
        """Runs of inputs that are neighbours in memory."""
        return self.c.taps[0] * self.c.taps[1]

    @property
    def run_quads(self) -> int:
        """Quads of a run, 0 where they pay no heed to runs."""
        return 0 if -(-self.runs * self.c.depth // FOUR) <= _STATIC_QUADS else -(-self.c.depth // FOUR)

    @property
    def quads(self) -> int:
        """Sums of four for an output."""
        return self.runs * self.run_quads or -(-self.runs * self.c.depth // FOUR)

    @property
    def chunk(self) -> int:
        """Quads whose tables exist at a time: the bits of a channel are one word."""
        fitting = min(_TABLE_BYTES // (CASES * self.vectors * self.c.lanes * 4), _STRAIGHT // (CHANNELS * self.vectors))
        return 1 << min(4, max(1, fitting.bit_length() - 1), (self.quads - 1).bit_length())

    @property
    def channels(self) -> int:
        """Output channels of a group, with those that fill the last vector."""
        return self.c.group_vectors * self.c.lanes

    @property
    def size(self) -> int:
        """Bytes of the weights of all groups."""
        whole, rest = divmod(self.quads, self.chunk)
        return self.c.groups * self.channels * (whole * _bytes(self.chunk) + _bytes(rest))

    def fill(self, body: Statements, c: Contraction, shape: TileShape, weights, tile, load_x: Callable) -> None:
        """Compute all channels of a tile of pixels, as `register_tile.fill_tile` does."""
        _Writer(self, body, shape, weights, tile, load_x).write()


def _bytes(quads: int) -> int:
    """Return how many bytes hold the bits of some quads: a whole word."""
    return 1 << (-(-quads // 2) - 1).bit_length() if quads else 0


def arrange_quads(cut: SignSums, bits: np.ndarray) -> np.ndarray:
    """Bring bits of weights, shape (outputs, KH, KW, depth), into the order [group][chunk][channel], a word each."""
    c = cut.c
    runs = bits.reshape(c.groups, c.group_outputs, cut.runs, c.depth)
    if cut.run_quads:
        # the last four inputs of a run are read together, whichever of them were read before
        runs = np.insert(runs, [c.depth // FOUR * FOUR] * (-c.depth % FOUR), 0, axis=3)
    flat = runs.reshape(c.groups, c.group_outputs, -1)
    flat = np.pad(flat, [(0, 0), (0, cut.channels - c.group_outputs), (0, cut.quads * FOUR - flat.shape[-1])]).astype(np.uint8)
    parts = []
    for group in flat:
        for first in range(0, cut.quads, cut.chunk):
            count = min(cut.chunk, cut.quads - first)
            octets = np.packbits(group[:, first * FOUR : (first + count) * FOUR], axis=1, bitorder="little")
            parts.append(np.pad(octets, [(0, 0), (0, _bytes(count) - octets.shape[1])]).reshape(-1))
    return np.concatenate(parts)


class _Writer:
    """Writes the code; arguments as of `register_tile.fill_tile`."""

    def __init__(self, cut: SignSums, body: Statements, shape: TileShape, weights, tile, load_x: Callable):
        self.cut, self.c, self.body, self.shape = cut, cut.c, body, shape
        self.weights, self.tile, self.load_x = weights, tile, load_x
        self.lanes = cut.c.lanes

    def write(self) -> None:
        """Write everything."""
        body, cut, lanes = self.body, self.cut, self.lanes
        widest = min(cut.vectors, -(-self.shape.pixels // lanes))
        table = body.local("float32", cut.chunk * CASES * widest * lanes, "table")
        sums = body.local("float32", cut.channels * widest * lanes, "sums")
        group_bytes = cut.size // self.c.groups
        chunk_bytes = cut.channels * _bytes(cut.chunk)
        with body.loop(self.c.groups, "g") as g:
            for start, count, width in pixel_tiles(-(-self.shape.pixels // lanes), cut.vectors):
                with body.loop(count, "r") as r:
                    first = (start + r * width) * lanes
                    alone = cut.quads <= cut.chunk
                    if not alone:
                        with body.loop(cut.channels * width, "clear") as i:
                            body.store(sums, i * lanes, const(0.0, "float32", lanes), lanes)
                    for chunk, size in self._chunks():
                        self._tables(table, g, chunk * cut.chunk, size, first, width)
                        self._add(table, sums, g * group_bytes + chunk * chunk_bytes, size, width, alone)
                    self._to_tile(sums, g, first, width)

    def _chunks(self) -> Iterator[tuple]:
        """Yield number and quads of each chunk, in a loop where it may be one."""
        whole, rest = divmod(self.cut.quads, self.cut.chunk)
        if self.cut.run_quads:
            with self.body.loop(whole, "chunk") as chunk:
                yield chunk, self.cut.chunk
        else:
            yield from ((chunk, self.cut.chunk) for chunk in range(whole))
        if rest:
            yield whole, rest

    def _tables(self, table, g, start, count: int, first, width: int) -> None:
        """Write the sums of `count` quads, from quad `start` on, of `width` vectors of pixels from pixel `first` on."""
        body, cut, lanes = self.body, self.cut, self.lanes
        with body.loop(width, "j") as j:
            at = first + j * lanes
            if not cut.run_quads:
                for quad in range(count):
                    self._sums(table, quad * CASES, j, width, self._scattered(g, at, (start + quad) * FOUR))
                return
            with body.loop(count, "quad") as quad:
                run, number = quotient_and_remainder(start + quad, cut.run_quads)
                self._sums(table, quad * CASES, j, width, self._in_run(g, at, run, number * FOUR))

    def _in_run(self, g, at, run, k) -> list:
        """Return vectors of the four inputs of a run from input `k` on; of the last four of the run, those that were not before `k`, zeros instead of these."""
        lanes, last = self.lanes, self.c.depth - FOUR
        if self.c.depth % FOUR == 0:
            return self._columns(g, at, run, k)
        found = self._columns(g, at, run, tirx.min(k, last))
        zero = const(0.0, "float32", lanes)
        return [self.body.bind(tirx.Select(spread(k <= last + i, lanes), vector, zero), "x") for i, vector in enumerate(found)]

    def _scattered(self, g, at, element: int) -> list:
        """Return vectors of the four inputs from `element` on, run after run, zeros after the last."""
        found, depth = [], self.c.depth
        while len(found) < FOUR and element < self.cut.runs * depth:
            run, k = divmod(element, depth)
            count = min(FOUR - len(found), depth - k)
            found += self._piece(g, at, run, k, count)
            element += count
        return found + [const(0.0, "float32", self.lanes)] * (FOUR - len(found))

    def _piece(self, g, at, run, k: int, count: int) -> list:
        """Return vectors of `count` inputs of a run."""
        if self.c.depth < FOUR:
            return [self._column(g, at, run, k + i) for i in range(count)]
        start = min(k, self.c.depth - FOUR)
        return self._columns(g, at, run, start)[k - start : k - start + count]

    def _input(self, g, pixel, run, k, *count):
        """Load inputs of a pixel."""
        return self.load_x(*self.shape.place(self.shape.within(pixel, self.lanes)), 0, g, *quotient_and_remainder(run, self.c.taps[1]), k, *count)

    def _column(self, g, at, run, k):
        """Return the vector of one input of neighbouring pixels."""
        parts = [self.body.bind(self._input(g, at + i, run, k), "x") for i in range(self.lanes)]
        return self.body.bind(tirx.Shuffle(parts, list(range(self.lanes))), "x")

    def _columns(self, g, at, run, k) -> list:
        """Return vectors of four neighbouring inputs of neighbouring pixels."""
        return _columns(self.body, lambda i: self._input(g, at + i, run, k, FOUR), self.lanes)

    def _sums(self, table, row, j, width: int, inputs: list) -> None:
        """Store the 16 sums of four vectors: bit i of a row's number is the sign of input i."""
        body, lanes = self.body, self.lanes
        a, b, c, d = inputs

        def put(number: int, value) -> None:
            body.store(table, ((row + number) * width + j) * lanes, value, lanes)

        both, apart = body.bind(a + b, "s"), body.bind(a - b, "s")
        for number, three in ((0, both + c), (4, both - c), (2, apart + c), (6, apart - c)):
            three = body.bind(three, "s")
            for case, total in ((number, three + d), (number + 8, three - d)):
                total = body.bind(total, "s")
                put(case, total)
                put(CASES - 1 - case, const(-1.0, "float32", lanes) * total)

    def _add(self, table, sums, at, count: int, width: int, starts: bool) -> None:
        """Add the sums that the weights from byte `at` on pick, of `count` quads, or store them where the sum `starts`."""
        body, lanes, octets = self.body, self.lanes, _bytes(count)
        dtype = f"uint{8 * octets}"
        slots = [(i, j) for i in range(CHANNELS) for j in range(width)]
        with body.loop(self.cut.channels // CHANNELS, "pair") as pair:
            words = []
            for i in range(CHANNELS):
                word = body.load(self.weights, at + (pair * CHANNELS + i) * octets, octets)
                words.append(body.bind(reinterpret(dtype, word) if octets > 1 else word, "word"))
            acc = {}
            for quad in range(count):
                for i in range(CHANNELS):
                    bits = tirx.shift_right(words[i], const(FOUR * quad, dtype)) if quad else words[i]
                    case = body.bind(tirx.Cast("int32", tirx.bitwise_and(bits, const(CASES - 1, dtype))), "case")
                    for j in range(width):
                        place = ((pair * CHANNELS + i) * width + j) * lanes
                        value = body.load(table, ((quad * CASES + case) * width + j) * lanes, lanes)
                        if quad or not starts:
                            value = (acc[i, j] if quad else body.load(sums, place, lanes)) + value
                        acc[i, j] = body.bind(value, "acc")
            for i, j in slots:
                body.store(sums, ((pair * CHANNELS + i) * width + j) * lanes, acc[i, j], lanes)

    def _to_tile(self, sums, g, first, width: int) -> None:
        """Store the sums of pixels from `first` on in the tile's order."""
        body, c, lanes = self.body, self.c, self.lanes

        with body.loop(c.group_vectors, "block") as block, body.loop(width * lanes // FOUR, "part") as part:
            rows = _columns(body, lambda i: body.load(sums, (block * lanes + i) * (width * lanes) + part * FOUR, FOUR), lanes)
            for i, row in enumerate(rows):
                at = self.shape.within(first + part * FOUR + i, lanes) * tile_stride(c) + g * c.group_outputs + block * lanes
                body.store(self.tile, at, row, lanes)


def _columns(body: Statements, load: Callable, lanes: int) -> list:
    """Return four vectors, one a column; ``load(row)`` loads the four elements of a row, of which there are as many as lanes."""
    rows = []
    for i in range(FOUR):
        parts = [body.bind(load(start + i), "part") for start in range(0, lanes, FOUR)]
        rows.append(parts[0] if lanes == FOUR else body.bind(tirx.Shuffle(parts, list(range(lanes))), "row"))
    return transpose_block(body, rows, lanes)
