"""Small integers by signs, lanes = pixels: the sums of all choices of four inputs, made once and looked up by the weights of every output channel.

With codes ``y = (x - lo) / step``, which are not negative, a sum by signs is that of the inputs whose weight is +1, twice, less the sum of all::

    sum(w x) / step = 2 sum(y where w = +1) - sum(y) + const

The 16 sums of a choice of four inputs, made for some vectors of pixels, serve all output channels, of each of which four bits of weights pick one. The sum of
all is one channel more, with all bits set. Where a few such sums fit a byte a vector has as many pixels as bytes; before bytes run over, they join sums of 16
bits: a word of two bytes is added to one, its higher byte to another, so that the first less 256 times the second is left of even pixels. More bits are summed
in words from the start, and where words run over these join sums of 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.schedules.formulations.interleave import transpose_block
from bnncc.schedules.register_tile import Contraction, TileShape, pixel_tiles, tile_stride
from bnncc.schedules.statements import Statements, const, reinterpret, spread

__all__ = ["CodeSums", "MOST_PIXELS", "ROW"]

FOUR = 4
"""Inputs of a sum."""

_CASES = 1 << FOUR

ROW = 16
"""Inputs that are read together, of a pixel: as many bytes as are transposed."""

_QUADS = 16
"""Whose sums exist at a time: the bits of a channel are one word."""

_CHANNELS = 2
"""Output channels of a register tile, which share the table's address."""

_STATIC_ROWS = 16
"""So many are straight-line code, whose inputs may come from anywhere."""

MOST_PIXELS = 256
"""Of a tile."""

_BYTE, _WORD = 255, 65535


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
        return min(self.rows, _QUADS * FOUR // ROW)

    @property
    def word_bytes(self) -> int:
        """Bytes of the bits of a channel in a chunk."""
        return 1 << (self.chunk_rows * ROW // 8 - 1).bit_length()

    @property
    def channels(self) -> int:
        """Output channels of a group, with those that fill the last vector, and pairs that begin with the sum of all."""
        return -(-(self.c.group_vectors * self.c.lanes + 1) // _CHANNELS) * _CHANNELS

    @property
    def flushed_quads(self) -> int:
        """Sums of four that a byte holds."""
        return _BYTE // (FOUR * self.top)

    @property
    def chunks(self) -> int:
        """Chunks, the last of which may be filled with zeros."""
        return -(-self.rows // self.chunk_rows)

    @property
    def span(self) -> int:
        """Chunks whose sums fit 16 bits."""
        most = max(1, _WORD // (self.chunk_rows * ROW * self.top))
        if self.runs * self.c.depth * self.top <= _WORD:
            return self.chunks
        return -(-self.chunks // -(-self.chunks // most))

    @property
    def is_narrow(self) -> bool:
        """Whether int16 holds every result."""
        return self.runs * self.c.depth * self.top <= _WORD // 2

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

    def fill(self, body: Statements, c: Contraction, shape: TileShape, weights, tile, load_x: Callable) -> None:
        """Compute all channels of a tile of pixels, as `register_tile.fill_tile` does."""
        _Writer(self, body, shape, weights, tile, load_x).write()


class _Writer:
    """Writes the code; arguments as of `register_tile.fill_tile`."""

    def __init__(self, cut: CodeSums, body: Statements, shape: TileShape, weights, tile, load_x: Callable):
        self.cut, self.c, self.body, self.shape = cut, cut.c, body, shape
        self.weights, self.tile, self.load_x = weights, tile, load_x
        self.pixels = shape.rows * shape.row_pixels
        self.size = cut.size
        self.halves = 1 if cut.in_bytes else 2
        """Vectors of the table for a vector of pixels."""
        self.dtype, self.lanes = ("uint8", self.size) if cut.in_bytes else ("uint16", self.size // 2)
        self.word_lanes = self.size // 2

    def write(self) -> None:
        """Write everything."""
        body, cut = self.body, self.cut
        widest = min(cut.vectors, -(-self.pixels // self.size))
        table = body.local(self.dtype, _QUADS * _CASES * widest * self.halves * self.lanes, "table")
        sums = body.local("uint16", cut.channels * widest * self.size, "sums")
        spans = -(-cut.chunks // cut.span)
        wide = body.local("int32", cut.channels * widest * self.size, "wide") if spans > 1 else None
        with body.loop(self.c.groups, "g") as g:
            for start, count, width in pixel_tiles(-(-self.pixels // self.size), cut.vectors):
                self._clear_first(table, width)
                with body.loop(count, "r") as r:
                    first = (start + r * width) * self.size
                    if spans > 1:
                        self._clear(wide, cut.channels * width * 4, "int32", self.size // 4)
                    whole, rest = divmod(cut.chunks, cut.span)
                    for number, size in ((whole, cut.span), (1, rest)):
                        if not size or not number:
                            continue
                        with body.loop(number, "span") as span:
                            at = span * cut.span if size == cut.span else whole * cut.span
                            alone = size == 1
                            if not alone:
                                self._clear(sums, cut.channels * width * 2, "uint16", self.word_lanes)
                            with body.loop(size, "chunk") as i:
                                self._tables(table, g, (at + i) * cut.chunk_rows, first, width)
                                self._add(table, sums, (g * cut.chunks + at + i) * cut.channels * cut.word_bytes, width, alone)
                            if spans > 1:
                                self._widen(sums, wide, width)
                    self._to_tile(sums, wide, g, first, width)

    def _clear(self, buffer, vectors: int, dtype: str, lanes: int) -> None:
        with self.body.loop(vectors, "clear") as i:
            self.body.store(buffer, i * lanes, const(0, dtype, lanes), lanes)

    def _clear_first(self, table, width: int) -> None:
        """Store the sum of none of four inputs."""
        vectors = width * self.halves
        with self.body.loop(_QUADS, "quad") as quad:
            for j in range(vectors):
                self.body.store(table, (quad * _CASES * vectors + j) * self.lanes, const(0, self.dtype, self.lanes), self.lanes)

    def _tables(self, table, g, start, first, width: int) -> None:
        """Write the sums of a chunk from row `start` on, of `width` vectors of pixels from pixel `first` on."""
        body, cut = self.body, self.cut
        with body.loop(width, "j") as j:
            if cut.piece == ROW:
                with body.loop(cut.chunk_rows, "row") as row:
                    self._row(table, g, start + row, row, first + j * self.size, j, width)
            else:
                for row in range(cut.chunk_rows):
                    self._row(table, g, start + row, row, first + j * self.size, j, width)

    def _row(self, table, g, number, row, at, j, width: int) -> None:
        """Write the sums of a row of inputs."""
        columns = self._columns(g, at, number)
        for quad in range(ROW // FOUR):
            inputs = columns[quad * FOUR : quad * FOUR + FOUR]
            if self.cut.in_bytes:
                self._sums(table, row * (ROW // FOUR) + quad, j, width, inputs)
                continue
            words = [self.body.bind(reinterpret(f"uint16x{self.lanes}", x), "x") for x in inputs]
            self._sums(table, row * (ROW // FOUR) + quad, j * 2, width * 2, [self._even(x) for x in words])
            self._sums(table, row * (ROW // FOUR) + quad, j * 2 + 1, width * 2, [self._odd(x) for x in words])

    def _even(self, x):
        return self.body.bind(tirx.bitwise_and(x, const(255, "uint16", self.word_lanes)), "even")

    def _odd(self, x):
        return self.body.bind(tirx.shift_right(x, const(8, "uint16", self.word_lanes)), "odd")

    def _pieces(self, number) -> list[tuple]:
        """Return (run, first input) of the pieces of a row."""
        cut, depth = self.cut, self.c.depth
        found = []
        for i in range(ROW // cut.piece):
            run, k = _divmod(number * (ROW // cut.piece) + i, cut.run_pieces)
            start, last = k * cut.piece, depth - cut.piece
            if isinstance(run, int):
                run, start = min(run, cut.runs - 1), min(start, last)
            else:
                if cut.rows % cut.chunk_rows:
                    run = tirx.min(run, cut.runs - 1)
                if depth % cut.piece:
                    start = tirx.min(start, last)
            found.append((run, start))
        return found

    def _columns(self, g, at, number) -> list:
        """Return vectors of the inputs of a row, of neighbouring pixels: codes from 0 on."""
        body, cut, size = self.body, self.cut, self.size
        pieces = self._pieces(number)

        def row(pixel):
            parts = [body.bind(reinterpret(_typed("uint8", cut.piece), self._input(g, pixel, *piece)), "x") for piece in pieces]
            return parts

        rows = []
        for i in range(ROW):
            parts = [part for start in range(0, size, ROW) for part in row(at + start + i)]
            rows.append(body.bind(tirx.Shuffle(parts, list(range(size))), "row") if len(parts) > 1 else parts[0])
        if cut.lo:
            rows = [body.bind(x - const(cut.lo & 255, "uint8", size), "x") for x in rows]
        if cut.step > 1:
            rows = [body.bind(tirx.shift_right(x, const(cut.step.bit_length() - 1, "uint8", size)), "x") for x in rows]
        return transpose_block(body, rows, size)

    def _input(self, g, pixel, run, k):
        """Load inputs of a pixel."""
        within = tirx.min(pixel, self.pixels - 1) if self.pixels % self.size else pixel
        place = _divmod(within, self.shape.row_pixels) if self.shape.rows > 1 else (0, within)
        return self.load_x(*place, 0, g, *_divmod(run, self.c.taps[1]), k, self.cut.piece)

    def _sums(self, table, quad, j, width: int, inputs: list) -> None:
        """Store the sums of all choices of four vectors but that of none: bit i of a row's number says whether input i is in it."""
        body, lanes = self.body, self.lanes
        a, b, c, d = inputs
        low = {1: a, 2: b, 3: body.bind(a + b, "s")}
        high = {4: c, 8: d, 12: body.bind(c + d, "s")}
        found = {**low, **high, **{i + j: body.bind(x + y, "s") for i, x in low.items() for j, y in high.items()}}
        for case, total in sorted(found.items()):
            body.store(table, ((quad * _CASES + case) * width + j) * lanes, total, lanes)

    def _add(self, table, sums, at, width: int, starts: bool) -> None:
        """Add the sums that the weights from byte `at` on pick, or store them where the sum `starts`."""
        body, cut, lanes, words = self.body, self.cut, self.lanes, self.word_lanes
        octets, count = cut.word_bytes, cut.chunk_rows * ROW // FOUR
        vectors = width * self.halves
        dtype = f"uint{8 * octets}"
        each = cut.flushed_quads if cut.in_bytes else count
        ends = {-(-count * (i + 1) // -(-count // each)) for i in range(-(-count // each))}
        with body.loop(cut.channels // _CHANNELS, "pair") as pair:
            picks = []
            for i in range(_CHANNELS):
                word = body.load(self.weights, at + (pair * _CHANNELS + i) * octets, octets)
                picks.append(body.bind(reinterpret(dtype, word) if octets > 1 else word, "word"))
            acc, whole = {}, {}

            def place(i, j, half):
                return (((pair * _CHANNELS + i) * width + j) * 2 + half) * words

            for i in range(_CHANNELS):
                for j in range(width):
                    for half in range(2):
                        if not starts:
                            whole[i, j, half] = body.load(sums, place(i, j, half), words)
            for quad in range(count):
                for i in range(_CHANNELS):
                    bits = tirx.shift_right(picks[i], const(FOUR * quad, dtype)) if quad else picks[i]
                    case = body.bind(tirx.Cast("int32", tirx.bitwise_and(bits, const(_CASES - 1, dtype))), "case")
                    for j in range(vectors):
                        value = body.load(table, ((quad * _CASES + case) * vectors + j) * lanes, lanes)
                        if (i, j) in acc:
                            value = acc[i, j] + value
                        acc[i, j] = body.bind(value, "acc")
                if quad + 1 in ends:
                    for (i, j), value in acc.items():
                        if cut.in_bytes:
                            value = body.bind(reinterpret(f"uint16x{words}", value), "both")
                            parts = [((i, j, 0), value), ((i, j, 1), self._odd(value))]
                        else:
                            parts = [((i, j // 2, j % 2), value)]
                        for key, part in parts:
                            whole[key] = body.bind(whole[key] + part, "whole") if key in whole else part
                    acc = {}
            for (i, j, half), value in whole.items():
                body.store(sums, place(i, j, half), value, words)

    def _pair(self, sums, channel, j, width: int) -> list:
        """Return the sums of even and of odd pixels of a channel, 16 bits each."""
        body, words = self.body, self.word_lanes
        even, odd = (body.bind(body.load(sums, ((channel * width + j) * 2 + half) * words, words), "sum") for half in range(2))
        if self.cut.in_bytes:
            even = body.bind(even - tirx.shift_left(odd, const(8, "uint16", words)), "even")
        return [even, odd]

    def _quarters(self, sums, channel, j, width: int) -> list:
        """Return the sums of pixels 0, 1, 2 and 3 of every four of a channel, 32 bits each."""
        body, lanes = self.body, self.size // 4
        even, odd = (body.bind(reinterpret(f"int32x{lanes}", x), "both") for x in self._pair(sums, channel, j, width))
        low = [body.bind(tirx.bitwise_and(x, const(_WORD, "int32", lanes)), "low") for x in (even, odd)]
        high = [body.bind(reinterpret(f"int32x{lanes}", tirx.shift_right(reinterpret(f"uint32x{lanes}", x), const(16, "uint32", lanes))), "high") for x in (even, odd)]
        return [*low, *high]

    def _widen(self, sums, wide, width: int) -> None:
        """Add sums of 16 bits to those of 32."""
        body, lanes = self.body, self.size // 4
        with body.loop(self.cut.channels, "channel") as channel, body.loop(width, "j") as j:
            for i, part in enumerate(self._quarters(sums, channel, j, width)):
                at = ((channel * width + j) * 4 + i) * lanes
                body.store(wide, at, body.load(wide, at, lanes) + part, lanes)

    def _to_tile(self, sums, wide, g, first, width: int) -> None:
        """Store the results of pixels from `first` on in the tile's order."""
        body, c = self.body, self.c
        block = 8 if self.cut.is_narrow else FOUR
        lanes = self.size // 2 if self.cut.is_narrow else self.size // 4
        kinds = 2 if self.cut.is_narrow else 4

        def values(channel, j) -> list:
            if self.cut.is_narrow:
                return self._pair(sums, channel, j, width)
            if wide is None:
                return self._quarters(sums, channel, j, width)
            return [body.load(wide, ((channel * width + j) * 4 + i) * lanes, lanes) for i in range(4)]

        typed = f"int16x{lanes}" if self.cut.is_narrow else f"int32x{lanes}"
        with body.loop(width, "j") as j:
            total = [body.bind(reinterpret(typed, x), "total") for x in values(c.group_vectors * c.lanes, j)]
            with body.loop(c.group_vectors * c.lanes // block, "block") as number:
                found = []
                for i in range(block):
                    each = [body.bind(reinterpret(typed, x), "sum") for x in values(number * block + i, j)]
                    found.append([body.bind(x + x - y, "sum") for x, y in zip(each, total, strict=True)])
                for kind in range(kinds):
                    turned = transpose_block(body, [each[kind] for each in found], lanes)
                    for i, row in enumerate(turned):
                        for part in range(lanes // block):
                            pixel = first + j * self.size + (part * block + i) * kinds + kind
                            within = tirx.min(pixel, self.pixels - 1) if self.pixels % self.size else pixel
                            at = within * tile_stride(c) + g * c.group_outputs + number * block
                            value = row if lanes == block else tirx.Shuffle([row], list(range(part * block, (part + 1) * block)))
                            body.store(self.tile, at, value, block)


def _typed(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _divmod(value, by: int) -> tuple:
    """Return quotient and remainder of a number that is not negative."""
    return divmod(value, by) if isinstance(value, int) else (tirx.truncdiv(value, by), tirx.truncmod(value, by))
