"""The table of sums of taps that `signed_sums` reads: a ring of as many rows as the kernel has, made row by row from the codes of an image.

The two pixels of a word are ``apart`` columns of the input apart. Where a word is all that a register holds, the sums of a column stand side by side, near one
pointer; where vectors of words are, words of neighbouring outputs do: ``[word][phase of the stride][column]``.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.group import Tensor
from bnncc.schedules.scalar.counters import WORD
from bnncc.schedules.scalar.tap_sums import Slot, TapSums
from bnncc.schedules.scalar.words import VECTOR_WORDS, load_vector, store_vector
from bnncc.schedules.statements import const, simplify

__all__ = ["BOTH", "HALF", "SumTable"]

HALF = 16
BOTH = 0x10001
"""Times this: a number in both halves."""


class SumTable:
    """Writes what makes the table.

    Parameters
    ----------
    builder : Builder
    anchor : Tensor
        ``bnn.signed_sum_conv2d``.
    sums : TapSums
    half : int
        Pairs of pixels in a row of outputs.
    in_vectors : bool
        Whether registers hold words of `VECTOR_WORDS` neighbouring pairs.
    """

    def __init__(self, builder: Builder, anchor: Tensor, sums: TapSums, half: int, in_vectors: bool):
        self.builder, self.body, self.anchor, self.sums, self.in_vectors = builder, builder.body, anchor, sums, in_vectors
        self.x = anchor.args[0]
        _, self.kh, self.kw, self.channels = anchor.args[1].shape
        self.sy, self.sx = (int(s) for s in anchor.attrs.strides)
        self.top, self.left, *_ = (int(p) for p in anchor.attrs.padding)
        self.height, breadth = anchor.shape[1:3]
        self.apart = (breadth - half) * self.sx
        self.columns = (half - 1) * self.sx + self.kw
        self.phase_columns = -(-self.columns // self.sx)
        if in_vectors:
            self.phase_columns = -(-self.phase_columns // VECTOR_WORDS) * VECTOR_WORDS
        self.line = self.sx * self.phase_columns
        """Elements of one word of a row, where those of neighbours stand side by side."""
        self.row_words = sums.words * (self.line if in_vectors else self.columns)
        self.table = self.body.local(WORD, self.kh * self.row_words, "sums")
        # vectors reach beyond the last column, by what a slot reaches
        self.tap_columns = self.phase_columns + (self.kw - 1) // self.sx + 1 if in_vectors else self.columns
        self.tap_words = self.channels * (self.sx * self.tap_columns if in_vectors else self.columns)
        self.taps = self.body.local(WORD, self.tap_words, "taps")
        if in_vectors:
            with self.body.loop(self.tap_words, "i") as i:
                self.body.store(self.taps, i, self._padding())

    def row(self, y, i: int, x):
        """Return the sums that row `i` of the taps reads for the outputs from (y, x) on, as a buffer."""
        slot, step = simplify((y * self.sy + i) % self.kh), 1 if self.in_vectors else self.sx * self.sums.words
        return self.body.part(self.table, slot * self.row_words + x * step, self.row_words, "row")

    def place(self, column: int) -> int:
        """Return where word 0 of a column stands behind the start of a row."""
        return column % self.sx * self.phase_columns + column // self.sx if self.in_vectors else column * self.sums.words

    @property
    def step(self) -> int:
        """Elements from one word of a column to the next."""
        return self.line if self.in_vectors else 1

    def make_rows(self, n, y) -> None:
        """Make the sums of the rows that row `y` of the outputs is the first to read."""
        body, end = self.body, y * self.sy + self.kh
        begin = y * self.sy if self.sy >= self.kh else tirx.Select(y > 0, end - self.sy, 0) if self.height > 1 else 0
        with self.builder.evaluator.loop(simplify(end - begin), "row", start=simplify(begin)) as row:
            self._read_taps(n, row)
            base = body.bind(simplify(row % self.kh) * self.row_words, "base")
            for slot in self.sums.slots:
                if not self.in_vectors:
                    with body.loop(self.columns - slot.columns + 1, "column") as column:
                        self._sum_up(slot, column, base + column * self.sums.words)
                    continue
                for phase in range(self.sx):
                    with body.loop(self.phase_columns // VECTOR_WORDS, "block") as block:
                        self._sum_up(slot, phase, base + (phase * self.phase_columns + block * VECTOR_WORDS), block * VECTOR_WORDS)

    def _tap(self, c: int, column, further=0):
        """Return the index of a tap, `further` columns of its phase behind `column`."""
        if not self.in_vectors:
            return column * self.channels + c
        return (c * self.sx + column % self.sx) * self.tap_columns + column // self.sx + further

    def _sum_up(self, slot: Slot, column, to, further=0) -> None:
        """Store the sums of a slot: each differs from the one before in one sign."""
        body, table = self.body, self.table

        def load(place):
            return load_vector(body, self.taps, place) if self.in_vectors else body.load(self.taps, place)

        def store(word: int, value) -> None:
            at = to + word * self.step
            store_vector(body, table, at, value) if self.in_vectors else body.store(table, at, value)

        places = [self._tap(slot.first + c, column + j, further) for j in range(slot.columns) for c in range(slot.channels)]
        values = [body.bind(load(place), "tap") for place in places]
        total = values[0]
        for value in values[1:]:
            total = total + value
        total, case = body.bind(total, "sum"), 0
        # of vectors a shift is an instruction of its own
        twice = [body.bind(value + value, "twice") if self.in_vectors else tirx.shift_left(value, tirx.const(1, WORD)) for value in slot.turned(values)]
        store(slot.at, total)
        for number in range(1, slot.sums):
            changed = (number & -number).bit_length() - 1
            case ^= 1 << changed
            total = body.bind(total - twice[changed] if case >> changed & 1 else total + twice[changed], "sum")
            store(slot.at + case, total)

    def _read_taps(self, n, row) -> None:
        """Bring a row of the input into words of two pixels."""
        body, height = self.body, self.x.shape[1]
        pads = self.top or (self.height - 1) * self.sy + self.kh - self.top > height
        if not pads:
            return self._read_inside(n, row)
        inside = tirx.And(row >= self.top, row < self.top + height)
        with body.when(inside), self.builder.evaluator.scope():
            self._read_inside(n, row - self.top)
        with body.when(tirx.Not(inside)), body.loop(self.tap_words, "i") as i:
            body.store(self.taps, i, self._padding())

    def _padding(self, times: int = BOTH):
        return const(int(self.anchor.attrs.pad_code) * times % (1 << 32), WORD)

    def _read_inside(self, n, row) -> None:
        width, body = self.x.shape[2], self.body
        starts = [self.left, self.left - self.apart]  # the columns of taps from which on each half is inside of the image
        cuts = sorted({min(max(cut, 0), self.columns) for cut in (0, self.columns, *starts, *(start + width for start in starts))})
        for first, end in zip(cuts, cuts[1:]):
            with self.builder.evaluator.loop(end - first, "column") as column:
                column = first + column
                for c in range(self.channels):
                    low, high = (
                        self._code(n, row, column - start, c) if start <= first < start + width else self._padding(1) for start in starts
                    )
                    body.store(self.taps, self._tap(c, column), low + tirx.shift_left(high, tirx.const(HALF, WORD)))

    def _code(self, n, row, column, c: int):
        place, x = (n, row, simplify(column), c), self.x
        if x.op:  # an order of axes that this kernel reads through
            axes = [int(axis) for axis in x.attrs.axes]
            place, x = [place[axes.index(axis)] for axis in range(4)], x.args[0]
        code = self.builder.evaluator.value(x, tuple(place), 1)
        return tirx.Cast(WORD, tirx.Cast("int32", code))
