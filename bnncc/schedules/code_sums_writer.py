"""Writes the code of `CodeSums`: for some vectors of pixels, chunk after chunk of the inputs, the table of sums and what each output channel picks of it."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.schedules.code_sums import CASES, CHANNELS, FOUR, LARGEST_WORD, QUADS, ROW, CodeSums
from bnncc.schedules.formulations.interleave import transpose_block
from bnncc.schedules.register_tile import Contraction, TileShape, pixel_tiles, tile_stride
from bnncc.schedules.statements import Statements, const, quotient_and_remainder, reinterpret, vector_type

__all__ = ["fill_code_sums"]


def fill_code_sums(cut: CodeSums, body: Statements, _: Contraction, shape: TileShape, weights, tile, load_x: Callable) -> None:
    """Compute all channels of a tile of pixels, as `register_tile.fill_tile` does."""
    _Writer(cut, body, shape, weights, tile, load_x).write()


class _Writer:
    """Writes the code; arguments as of `register_tile.fill_tile`."""

    def __init__(self, cut: CodeSums, body: Statements, shape: TileShape, weights, tile, load_x: Callable):
        self.cut, self.c, self.body, self.shape = cut, cut.c, body, shape
        self.weights, self.tile, self.load_x = weights, tile, load_x
        self.size = cut.size
        self.halves = 1 if cut.in_bytes else 2
        """Vectors of the table for a vector of pixels."""
        self.dtype, self.lanes = ("uint8", self.size) if cut.in_bytes else ("uint16", self.size // 2)
        self.word_lanes = self.size // 2

    def write(self) -> None:
        """Write everything."""
        body, cut = self.body, self.cut
        widest = min(cut.vectors, -(-self.shape.pixels // self.size))
        table = body.local(self.dtype, QUADS * CASES * widest * self.halves * self.lanes, "table")
        sums = body.local("uint16", cut.channels * widest * self.size, "sums")
        spans = -(-cut.chunks // cut.span)
        wide = body.local("int32", cut.channels * widest * self.size, "wide") if spans > 1 else None
        with body.loop(self.c.groups, "g") as g:
            for start, count, width in pixel_tiles(-(-self.shape.pixels // self.size), cut.vectors):
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
        with self.body.loop(QUADS, "quad") as quad:
            for j in range(vectors):
                self.body.store(table, (quad * CASES * vectors + j) * self.lanes, const(0, self.dtype, self.lanes), self.lanes)

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
            run, k = quotient_and_remainder(number * (ROW // cut.piece) + i, cut.run_pieces)
            start, last = k * cut.piece, depth - cut.piece
            if isinstance(run, int):
                run, start = min(run, cut.runs - 1), min(start, last)
            else:
                if cut.chunks * cut.chunk_rows * (ROW // cut.piece) > cut.runs * cut.run_pieces:
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
            parts = [body.bind(reinterpret(vector_type("uint8", cut.piece), self._input(g, pixel, *piece)), "x") for piece in pieces]
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
        return self.load_x(*self.shape.place(self.shape.within(pixel, self.size)), 0, g, *quotient_and_remainder(run, self.c.taps[1]), k, self.cut.piece)

    def _sums(self, table, quad, j, width: int, inputs: list) -> None:
        """Store the sums of all choices of four vectors but that of none: bit i of a row's number says whether input i is in it."""
        body, lanes = self.body, self.lanes
        a, b, c, d = inputs
        low = {1: a, 2: b, 3: body.bind(a + b, "s")}
        high = {4: c, 8: d, 12: body.bind(c + d, "s")}
        found = {**low, **high, **{i + j: body.bind(x + y, "s") for i, x in low.items() for j, y in high.items()}}
        for case, total in sorted(found.items()):
            body.store(table, ((quad * CASES + case) * width + j) * lanes, total, lanes)

    def _add(self, table, sums, at, width: int, starts: bool) -> None:
        """Add the sums that the weights from byte `at` on pick, or store them where the sum `starts`."""
        body, cut, lanes, words = self.body, self.cut, self.lanes, self.word_lanes
        octets, count = cut.word_bytes, cut.chunk_rows * ROW // FOUR
        vectors = width * self.halves
        dtype = f"uint{8 * octets}"
        each = cut.flushed_quads if cut.in_bytes else count
        ends = {-(-count * (i + 1) // -(-count // each)) for i in range(-(-count // each))}
        with body.loop(cut.channels // CHANNELS, "pair") as pair:
            picks = []
            for i in range(CHANNELS):
                word = body.load(self.weights, at + (pair * CHANNELS + i) * octets, octets)
                picks.append(body.bind(reinterpret(dtype, word) if octets > 1 else word, "word"))
            acc, whole = {}, {}

            def place(i, j, half):
                return (((pair * CHANNELS + i) * width + j) * 2 + half) * words

            for i in range(CHANNELS):
                for j in range(width):
                    for half in range(2):
                        if not starts:
                            whole[i, j, half] = body.load(sums, place(i, j, half), words)
            for quad in range(count):
                for i in range(CHANNELS):
                    bits = tirx.shift_right(picks[i], const(FOUR * quad, dtype)) if quad else picks[i]
                    case = body.bind(tirx.Cast("int32", tirx.bitwise_and(bits, const(CASES - 1, dtype))), "case")
                    for j in range(vectors):
                        value = body.load(table, ((quad * CASES + case) * vectors + j) * lanes, lanes)
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
        low = [body.bind(tirx.bitwise_and(x, const(LARGEST_WORD, "int32", lanes)), "low") for x in (even, odd)]
        high = [tirx.shift_right(reinterpret(f"uint32x{lanes}", x), const(16, "uint32", lanes)) for x in (even, odd)]
        return [*low, *(body.bind(reinterpret(f"int32x{lanes}", x), "high") for x in high)]

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
                            at = self.shape.within(pixel, self.size) * tile_stride(c) + g * c.group_outputs + number * block
                            value = row if lanes == block else tirx.Shuffle([row], list(range(part * block, (part + 1) * block)))
                            body.store(self.tile, at, value, block)
