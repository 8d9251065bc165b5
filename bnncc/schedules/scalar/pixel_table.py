"""The table of a block of pixels: rows of the input as bit planes, and the majorities of their triples."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.builder import Builder
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.majority import CASES, reduce_triples, row_count, store_row
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.scalar.counters import WORD, chunk_of, zero_of
from bnncc.schedules.scalar.pixel_blocks import LANES, PixelBlocks, first_of
from bnncc.schedules.scalar.words import VECTOR_REGISTERS, VECTOR_WORDS, gather_vector, keep_vector, transpose, transpose_vectors
from bnncc.schedules.statements import const, simplify
from bnncc.schedules.taps import strides_of

__all__ = ["PixelTable"]

_FEW_ROWS = 2
"""Rows of a block of which a word is put together anew for each tap, at most: few operations, and few words are kept for it."""


class PixelTable:
    """Writes what makes the table of a convolution.

    Parameters
    ----------
    builder : Builder
    anchor : Tensor
        ``bnn.packed_conv2d``.
    shape : BinaryShape
    blocks : PixelBlocks
    word : str
        What lanes are bits of: ``uint32``, or ``uint32x4`` for stacked blocks.
    block : bool
        Whether `counters.add_block` adds the rows.

    Attributes
    ----------
    rows : int
        Of the table.
    chunk : int
        Rows that are added in a turn.
    slots : bool
        Whether behind a chunk stands a word for what is carried out: where loads and stores reach that far.
    buffer : Buffer
    """

    def __init__(self, builder: Builder, anchor: Tensor, shape: BinaryShape, blocks: PixelBlocks, word: str = WORD, block: bool = False):
        self.builder, self.body, self.shape, self.blocks = builder, builder.body, shape, blocks
        (self.sy, self.sx), (self.dy, self.dx) = strides_of(anchor)
        self.kh, self.kw = shape.taps
        self.x = anchor.args[0]
        batch, height, breadth, words = self.x.shape
        if (blocks.height, blocks.breadth) != anchor.shape[1:3]:  # the image is cut into rows of another length
            height, breadth = blocks.height, blocks.breadth
        if self.kh == 1 and height % self.sy == 0:  # rows of the input that no tap reads are parts of those that one does
            height, breadth, self.sy = height // self.sy, breadth * self.sy, 1
        self.image = batch, height, breadth, words
        self.rows = row_count(self.kh * self.kw) * shape.inputs + row_count(shape.inputs)
        self.chunk = chunk_of(self.rows, builder.variant.vector_registers if word == WORD else VECTOR_REGISTERS, block)
        self.two_planes = int(anchor.attrs.planes) == 2
        self.chunks = -(-self.rows // self.chunk)  # with two planes of the input, each has whole chunks, filled up with rows of zeros
        self.plane_words = self.x.shape[-1] // int(anchor.attrs.planes)
        self.slots = "scaled-index" in builder.variant.instructions and word == WORD
        self.phases = sorted({j * self.dx % self.sx for j in range(self.kw)})
        # what the taps of a phase reach: more lanes may lie behind the image
        self.lanes = [blocks.width + max(j * self.dx // self.sx for j in range(self.kw) if j * self.dx % self.sx == phase) for phase in self.phases]
        self.reach = max(j * self.dx // self.sx for j in range(self.kw))
        self.word = word
        self.span = (blocks.covered - 1) * self.sy + (self.kh - 1) * self.dy + 1
        self.planes = self.x.shape[-1] * LANES
        self.apart = int(anchor.attrs.in_groups) == shape.groups
        self.buffer = self.body.local(word, 2 * self.region if self.two_planes else self.place(self.rows) + 1, "table")
        # a block of one row and of single pixels takes its inputs as they were transposed, and no other block needs them
        self.in_place = (blocks.covered, *shape.taps, shape.word_bits) == (1, 1, 1, LANES) and word == WORD
        self.left = None if self.in_place else self.body.local(word, shape.inputs, "left")
        # of stacked blocks, rows stand in the ring by fours, their words side by side
        self.ring_groups = (self.span + 2 * VECTOR_WORDS - 2) // VECTOR_WORDS
        rows = self.span if word == WORD else self.ring_groups * VECTOR_WORDS
        self.ring = self.body.local(WORD, rows * len(self.phases) * self.planes, "ring")

    def place(self, row):
        """Return where a row of the table stands."""
        return row * CASES + row // self.chunk if self.slots else row * CASES

    @property
    def region(self) -> int:
        """Words of the table of one plane of two."""
        return self.place(self.chunks * self.chunk)

    def clear(self) -> None:
        """Write the rows of zeros that fill up chunks."""
        first = self.place(self.rows)
        with self.body.loop(2, "plane") as plane, self.body.loop(self.region - first, "i") as i:
            self.body.store(self.buffer, plane * self.region + first + i, zero_of(self.word))

    def slot(self, chunk) -> tuple:
        """Return where the word carried out of a chunk is kept."""
        return self.buffer, (chunk + 1) * (self.chunk * CASES + 1) - 1

    def read_rows(self, n, by, y0, x0) -> None:
        """Bring the rows of the input that a block needs, and the block above did not, into the ring of bit planes."""
        body, blocks = self.body, self.blocks
        end, words = y0 * self.sy + self.span, self.image[-1]
        done = tirx.Select(by > 0, first_of(by - 1, blocks.covered, blocks.height) * self.sy + self.span, 0) if blocks.down > 1 else 0
        bits = self.shape.word_bits
        if self.word != WORD:
            return self._read_groups(n, done, end, x0)
        with body.loop(end - done, "row", start=done) as row:
            for number, phase in enumerate(self.phases):
                lanes = self.lanes[number]
                with body.loop(self.plane_words * self.shape.planes if self.two_planes else words, "word") as word:
                    at = linear_index(self.image, (n, row, x0 * self.sx + phase, word))
                    to = ((row % self.span) * len(self.phases) + number) * self.planes + word * LANES
                    source, step = (self.builder.buffers[self.x], at), self.sx * words
                    if bits < 32:
                        wide = body.local(WORD, lanes, "wide")
                        with body.loop(lanes, "lane") as lane:
                            body.store(wide, lane, tirx.Cast(WORD, body.load(self.builder.buffers[self.x], at + lane * step)))
                        source, step = (wide, 0), 1
                    transpose(body, source, step, lanes, (self.ring, to), 1)

    def _read_groups(self, n, done, end, x0) -> None:
        """Bring the fours of rows that begin from row `done` on and before row `end`, four times as many bits at once; behind the image its last row stands."""
        body, first, last = self.body, (done + VECTOR_WORDS - 1) // VECTOR_WORDS, (end + VECTOR_WORDS - 1) // VECTOR_WORDS
        _, height, breadth, words = self.image
        with body.loop(simplify(last - first), "rows", start=simplify(first)) as group:
            row = body.bind(group * VECTOR_WORDS, "row")
            offsets = [tirx.min(tirx.const(lane, "int32"), height - 1 - row) * (4 * breadth * words) for lane in range(VECTOR_WORDS)]
            apart = keep_vector(body, [tirx.Cast(WORD, offset) for offset in offsets])
            for number, phase in enumerate(self.phases):
                with body.loop(self.plane_words * self.shape.planes if self.two_planes else words, "word") as word:
                    at = linear_index(self.image, (n, row, x0 * self.sx + phase, word))
                    to = ((group % self.ring_groups) * len(self.phases) + number) * self.planes + word * LANES
                    transpose_vectors(body, (self.builder.buffers[self.x], at), self.sx * words, self.lanes[number], apart, (self.ring, to * VECTOR_WORDS))

    def make(self, g, y0, input_plane=0):
        """Write the table of a block, or of one of the planes of its input; return the bit that is left."""
        body, shape, blocks = self.body, self.shape, self.blocks
        self.first = input_plane * self.region if self.two_planes else 0
        offsets = sorted({r * self.sy + i * self.dy for r in range(blocks.rows) for i in range(self.kh)})
        base = {o: self._base(y0, o) for o in offsets}
        per_channel = row_count(self.kh * self.kw)
        # groups start a word each in the input, or their channels stand in a row
        first_channel = input_plane * (self.plane_words * shape.word_bits) + g * (shape.words * shape.word_bits if self.apart else shape.inputs)
        if self.in_place:
            left = body.part(self.ring, base[0] + first_channel, shape.inputs, "left")
        else:
            left = self.left
            self._reduce_taps(base, first_channel)
        at, count = shape.inputs * per_channel, shape.inputs
        while count > 1:
            whole, rest = divmod(count, 3)
            if whole:
                with body.loop(whole, "t") as t:
                    body.store(left, t, self._row(at + t, [body.bind(body.load(left, 3 * t + i), "x") for i in range(3)]))
            if rest == 2:
                body.store(left, whole, self._row(at + whole, [body.bind(body.load(left, 3 * whole + i), "x") for i in range(2)]))
            elif rest:
                body.store(left, whole, body.load(left, 3 * whole))
            at, count = at + whole + (rest == 2), whole + (rest > 0)
        if at != self.rows:
            raise InternalError(f"a table of {self.rows} rows was written to row {at}")
        return body.bind(body.load(left, 0), "parity")

    def _reduce_taps(self, base: dict, first_channel) -> None:
        """Write the rows of each channel's taps, and what they leave."""
        body, shape, per_channel = self.body, self.shape, row_count(self.kh * self.kw)
        with body.loop(shape.inputs, "c") as c:
            channel = first_channel + c
            plane = channel if shape.word_bits == LANES else channel // shape.word_bits * LANES + channel % shape.word_bits
            read = functools.cache(lambda o, p, plane=plane: body.bind(self._read(base[o], p * self.planes + plane), "in"))
            made: dict = {}
            # a tap is made where its row is: all at once they would not fit the registers
            taps = [functools.partial(self._tap, read, made, i, j) for i in range(self.kh) for j in range(self.kw)]
            number = iter(range(per_channel))
            # rows of a channel that no slot parts are reached from one pointer: C compilers would add up the place of every word
            together = self.slots and per_channel and self.chunk % per_channel == 0
            own = body.part(self.buffer, simplify(self.first + self.place(c * per_channel)), per_channel * CASES, "rows") if together else None

            def row(group, c=c, number=number, own=own):
                group, place = [item() if isinstance(item, functools.partial) else item for item in group], next(number)
                return self._row(c * per_channel + place, group) if own is None else body.bind(store_row(body, own, place * CASES, group), "sum")

            left = reduce_triples(taps, row)
            body.store(self.left, c, left() if isinstance(left, functools.partial) else left)

    def _base(self, y0, offset: int):
        """Return where a row of the ring begins, or, for stacked blocks, where those of all of them do, in bytes; computed here where it is not known."""
        row_words = len(self.phases) * self.planes
        if self.word == WORD:
            index = (y0 * self.sy + offset) % self.span * row_words
            return index if isinstance(index, int) else self.body.bind(index, "at")
        rows = ((y0 + min(lane, self.blocks.stacked - 1) * self.blocks.rows) * self.sy + offset for lane in range(VECTOR_WORDS))
        places = (row // VECTOR_WORDS % self.ring_groups * (row_words * VECTOR_WORDS) + row % VECTOR_WORDS for row in rows)
        return keep_vector(self.body, [tirx.Cast(WORD, simplify(place) * 4) for place in places])

    def _read(self, base, index):
        """Return a word of a row of the ring, or that of each stacked block."""
        if self.word == WORD:
            return self.body.load(self.ring, base + index)
        return gather_vector(self.body, self.ring, index * VECTOR_WORDS, base)

    def _row(self, row, group):
        at = simplify(self.first + self.place(row))
        to = (self.body.part(self.buffer, at, CASES, "row"), 0) if self.slots else (self.buffer, at)
        return self.body.bind(store_row(self.body, *to, group), "sum")

    def _number(self, value: int):
        return const(value, WORD, 1 if self.word == WORD else VECTOR_WORDS)

    def _tap(self, read: Callable, made: dict, i: int, j: int):
        """Return the input of a tap for the pixels of all rows of a block; `made` holds those of the rows of taps above."""
        blocks = self.blocks
        shift, phase = j * self.dx // self.sx, self.phases.index(j * self.dx % self.sx)
        total, first = None, 0
        # rows of taps that lie a row of the output apart have all rows of the input but one in common
        apart = self.sy // self.dy if self.sy % self.dy == 0 and blocks.rows > _FEW_ROWS else self.kh
        if i >= apart:
            first = blocks.rows - 1
            total = tirx.shift_right(made[i - apart, j], self._number(blocks.width))
        for r in range(first, blocks.rows):
            word = read(r * self.sy + i * self.dy, phase)
            word = tirx.shift_right(word, self._number(shift)) if shift else word
            # behind the last lanes that are read stand zeros; behind the last row, no row will
            is_last = r == blocks.rows - 1 and (i + apart >= self.kh or blocks.rows * blocks.width == LANES)
            if shift < self.reach and not is_last:
                word = tirx.bitwise_and(word, self._number((1 << blocks.width) - 1))
            word = tirx.shift_left(word, self._number(r * blocks.width)) if r else word
            total = word if total is None else tirx.bitwise_or(total, word)
        made[i, j] = self.body.bind(total, "tap")
        return made[i, j]
