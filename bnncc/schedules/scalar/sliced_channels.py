"""Sliced formulation for dense layers and late convolutions: lanes are output channels, the majority tables come from the weights.

The table lies in flash and takes 4 bits a weight. The cases are made of the activations once a pixel, four in a word, and serve all output channels::

    for every pixel:
        queue: the words of its taps, then the exclusive or of every three
        cases: bits of three words side by side, with the row's place in a window of the table
        for every 32 output channels:  planes += table[row][case]      a row for every two inputs

With Helium the tables of four times 32 channels stand side by side, and their counters are the words of a vector.

A threshold is preloaded into the counters (`threshold`), and their carry out is the packed output; before any other epilogue the planes are transposed to
counts.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.scalar.channel_table import BITS, LAST_BIT, LAST_PIECES, LAST_ROWS, queue_words, table_of, table_words, triples
from bnncc.schedules.scalar.counters import BLOCK_WINDOW, WORD, Counter, add_block, add_rows, chunk_of, mask
from bnncc.schedules.scalar.majority import CASES
from bnncc.schedules.scalar.threshold import Threshold
from bnncc.schedules.scalar.words import VECTOR, VECTOR_REGISTERS, VECTOR_WORDS, load_vector, peek, store_vector, transpose
from bnncc.schedules.statements import const, spread

__all__ = ["sliced_channels"]

_OCTETS = 0x01010101


class _SlicedChannels:
    def __init__(self, builder: Builder, anchor: Tensor, shape: BinaryShape, length: int, word_at: Callable, border, threshold: Threshold | None):
        self.builder, self.body, self.anchor, self.shape = builder, builder.body, anchor, shape
        self.length, self.word_at, self.border, self.threshold = length, word_at, border, threshold
        self.scaled, self.two_operands = ("scaled-index" in builder.variant.instructions), ("two-operands" in builder.variant.instructions)
        self.w = anchor.args[1]
        self.words = queue_words(shape.taps[0] * shape.taps[1], shape.inputs, shape.word_bits)
        self.triples = triples(self.words)
        self.vectors = -(-shape.outputs // BITS)
        # words of channels that are counted at once
        self.wide = VECTOR_WORDS if "mve" in builder.variant.instructions and threshold is not None and self.vectors >= VECTOR_WORDS else 1
        self.vectors = -(-self.vectors // self.wide) * self.wide
        self.word = WORD if self.wide == 1 else VECTOR
        self.chunk = chunk_of(BITS * self.triples, builder.variant.vector_registers if self.wide == 1 else VECTOR_REGISTERS, self.two_operands)
        self.table_words = table_words(self.words)
        # a case with its row's place in a window: what one byte holds, scaled to bytes where the processor cannot scale
        self.window, self.shift = (self.chunk, 0) if self.scaled else (BLOCK_WINDOW, 2)

    def write(self) -> Kernel:
        """Write everything."""
        body, shape = self.body, self.shape
        size = shape.groups * self.vectors * self.table_words
        if self.threshold is None:
            self.table = self.builder.replace(self.w, size, WORD, self._arrange)
        else:
            self.table = self.threshold.complement(self.builder, self.w, size, WORD, self._arrange)
            self.starts = self.threshold.starts(self.builder, self.vectors * self.threshold.planes, self._starts)
        self.queue = body.local(WORD, self.words + 1 + self.triples, "queue")
        self.cases = body.local(WORD, BITS // 4 * (self.triples + 1), "cases")
        if self.threshold is None:
            self.counts = body.local(WORD, shape.groups * self.vectors * BITS, "counts")
            self.planes = body.local(WORD, BITS // 2, "planes")
        evaluator = self.builder.evaluator
        with self.builder.lead_loops(self.anchor.shape[:-1]) as place:
            with evaluator.loop(shape.groups, "g") as g:
                parity = self._cases(place, g)
                with evaluator.loop(self.vectors // self.wide, "v") as v:
                    self._vector(place, g * (self.vectors // self.wide) + v, parity)
            if self.threshold is None:
                evaluator.define(self.anchor, self._value)
                self.builder.outputs.write(evaluator, place)
        return self.builder.kernel(f"sliced, lanes are channels, {self.shape.word} words")

    # compile time

    def _arrange(self, words: np.ndarray) -> np.ndarray:
        """Build the tables of all vectors of all groups from packed weights of shape (outputs, KH, KW, words)."""
        octets = np.ascontiguousarray(words).view(np.uint8).reshape(self.shape.groups, self.shape.outputs, -1)
        padded = np.zeros((self.shape.groups, self.vectors * BITS, 4 * self.words), np.uint8)
        padded[:, : self.shape.outputs, : octets.shape[-1]] = octets
        tables = np.stack([table_of(vector) for vector in padded.reshape(-1, BITS, 4 * self.words)])
        return tables.reshape(-1, self.wide, tables.shape[-1]).swapaxes(1, 2).reshape(-1)

    def _lanes(self, bits: np.ndarray) -> np.ndarray:
        """Turn bits of channels, shape (channels, n), into words of lanes, shape (vectors, n)."""
        padded = np.zeros((self.vectors * BITS, bits.shape[1]), np.uint8)
        padded[: len(bits)] = bits
        packed = np.packbits(padded.reshape(self.vectors, BITS, -1), axis=1, bitorder="little")
        return np.ascontiguousarray(packed.transpose(0, 2, 1)).view("<u4")[..., 0]

    def _starts(self, start: np.ndarray) -> np.ndarray:
        # a lane without a channel starts from 0 and carries nothing out
        words = self._lanes(start[0, 0, :, None] >> np.arange(self.threshold.planes) & 1)
        return words.reshape(-1, self.wide, self.threshold.planes).swapaxes(1, 2)

    # one pixel

    def _cases(self, place, g):
        """Write queue and cases; return the bit that is left."""
        body, n = self.body, self.triples
        self._read(place, g)
        if n:
            with body.loop(n, "t") as t:
                three = [body.bind(body.load(self.queue, 3 * t + i), "x") for i in range(3)]
                body.store(self.queue, self.words + (self.words % 2 == 0) + t, three[0] ^ three[1] ^ three[2])
                self._spread(three, t * (BITS // 4), True)
        word = body.bind(body.load(self.queue, 3 * n), "x")
        thirds = [const(0, WORD) for _ in range(3)]
        for size, first in LAST_PIECES:
            parts = []
            for i in range(3):
                shifted = tirx.shift_right(word, const(i * size, WORD)) if i else word
                parts.append(body.bind(tirx.bitwise_and(shifted, const((1 << size) - 1, WORD)), "x"))
            thirds = [third | tirx.shift_left(part, const(first, WORD)) for third, part in zip(thirds, parts, strict=True)]
            word = body.bind(parts[0] ^ parts[1] ^ parts[2], "x")
        self._spread([body.bind(third, "x") for third in thirds], n * (BITS // 4), False)
        return body.bind(mask(word, 0), "parity")

    def _read(self, place, g) -> None:
        """Read all words of a pixel into the queue."""
        body, shape = self.body, self.shape
        per = BITS // shape.word_bits
        kh, kw = shape.taps
        if per > 1:
            with body.loop(self.words, "w") as w:
                body.store(self.queue, w, const(0, WORD))
        if self.words % 2 == 0:
            body.store(self.queue, self.words, const(0, WORD))
        with body.loop(kh, "kh") as i, body.loop(kw, "kw") as j, body.loop(shape.words, "w") as w:
            number = (i * kw + j) * shape.words + w
            word = self.word_at(place, 0, g, i, j, w)
            if per == 1:
                body.store(self.queue, number, word)
            else:
                moved = tirx.shift_left(tirx.Cast(WORD, word), tirx.Cast(WORD, number % per * shape.word_bits))
                body.store(self.queue, number // per, body.load(self.queue, number // per) | moved)

    def _spread(self, words: list, first, windowed: bool) -> None:
        """Store the cases of three words: byte i of word j has the bits 8 i + j."""
        body = self.body
        for j in range(BITS // 4):
            total = None
            if windowed:
                octets = [((4 * j + i) % self.window * CASES) << self.shift for i in range(4)]
                total = const(int.from_bytes(bytes(octets), "little"), WORD)
            for m, word in enumerate(words):
                bits = tirx.bitwise_and(tirx.shift_right(word, const(j, WORD)) if j else word, const(_OCTETS, WORD))
                bits = tirx.shift_left(bits, const(m + self.shift, WORD)) if m + self.shift else bits
                total = bits if total is None else total | bits
            body.store(self.cases, first + j, total)

    def _vector(self, place, vector, parity) -> None:
        """Count the differing bits of 32 channels, or of as many in every word of a vector."""
        body = self.body
        base = body.bind(vector * self.table_words, "base") if not isinstance(vector, int) else vector * self.table_words
        rows = BITS * self.triples
        left = self._load(self.table, base + (rows + LAST_ROWS) * CASES)
        parity = body.bind(spread(parity, self.wide) ^ left, "parity")
        if self.threshold is None:
            counter = Counter(body, two_operands=self.two_operands)
            self._add(counter, base)
            count = self.length.bit_length()
            for bit, plane in enumerate([parity, *counter.planes(count - 1)]):
                body.store(self.planes, bit, plane)
            transpose(body, (self.planes, 0), 1, count, (self.counts, vector * BITS), 1)
            return
        levels = self.chunk.bit_length() - 1
        start = self._start(vector)
        counter = Counter(body, two_operands=self.two_operands, word=self.word)
        self.threshold.prepare(counter, start, [parity], levels)
        self._add(counter, base)
        answer = body.bind(self.threshold.answer(counter, start, levels), "answer")
        if self.wide == 1:
            return self._store(place, vector, answer)
        answers = body.local(WORD, self.wide, "answers")
        store_vector(body, answers, 0, answer)
        for i in range(self.wide):
            self._store(place, vector * self.wide + i, body.load(answers, i))

    def _load(self, buffer, index):
        """Return a word of a table, or those of all tables that stand side by side."""
        return self.body.load(buffer, index) if self.wide == 1 else load_vector(self.body, buffer, index * self.wide)

    def _add(self, counter: Counter, base) -> None:
        body, rows = self.body, BITS * self.triples

        def look(chunk):
            table = body.part(self.table, (base + chunk * (self.chunk * CASES)) * self.wide, self.chunk * CASES * self.wide, "rows")
            own = body.part(self.cases, chunk * (self.chunk // 4), self.chunk // 4, "own")

            def word(place):
                case = tirx.Cast("int32", peek(body, own, 0, "uint8", place))
                window = place // self.window * self.window * CASES
                return self._load(table, window + case) if self.scaled else peek(body, table, window, WORD, case)

            return word

        block = functools.partial(add_block, body, (self.table, base), (self.cases, 0)) if self.two_operands else None
        add_rows(counter, rows, look, self.chunk, block=block)
        places = {bit % 8 * 4 + bit // 8: bit for bit in range(LAST_BIT)}
        for place, bit in sorted(places.items()):
            case = tirx.Cast("int32", peek(body, self.cases, BITS // 4 * self.triples, "uint8", place))
            row = base + (rows + bit) * CASES
            counter.add(body.bind(self._load(self.table, row + case) if self.scaled else peek(body, self.table, row, WORD, case), "w"))

    def _start(self, vector) -> list[Callable]:
        planes = range(self.threshold.planes)
        if isinstance(self.starts, int):
            return [functools.partial(const, 0xFFFFFFFF if self.starts >> bit & 1 else 0, WORD, self.wide) for bit in planes]
        return [functools.partial(self._load, self.starts, vector * len(planes) + bit) for bit in planes]

    # results

    def _store(self, place, vector, answer) -> None:
        """Store the bits of 32 channels as words of the output."""
        (pack,) = self.builder.group.outputs
        layout = self.threshold.layout
        if isinstance(self.starts, int) and self.shape.outputs % BITS:  # lanes without a channel are as the others
            rest = (1 << self.shape.outputs % BITS) - 1
            answer = tirx.bitwise_and(answer, tirx.Select(tirx.EQ(vector, self.shape.outputs // BITS), const(rest, WORD), const(0xFFFFFFFF, WORD)))
            answer = self.body.bind(answer, "answer")
        per = BITS // layout.bits
        for i in range(per):
            part = tirx.Cast(pack.dtype, tirx.shift_right(answer, const(i * layout.bits, WORD))) if i else tirx.Cast(pack.dtype, answer)
            word = vector * per + i
            with self.body.when(word < layout.words) if self.vectors * per > layout.words else contextlib.nullcontext():
                self.builder.store_word(pack, (*place, word), part)

    def _value(self, index, lanes):
        """Return the dot product of a channel from its count."""
        channel, outputs = index[-1], self.shape.outputs
        lane = channel if outputs % BITS == 0 or self.shape.groups == 1 else channel // outputs * (self.vectors * BITS) + channel % outputs
        count = tirx.Cast("int32", self.body.load(self.counts, lane))
        value = const(self.length, "int32") - count * 2
        return value if self.border is None else value + self.border(index, 1)


def sliced_channels(
    builder: Builder, anchor: Tensor, shape: BinaryShape, length: int, word_at: Callable, border, threshold: Threshold | None
) -> Kernel:
    """Build a binary convolution or dense layer and its epilogue with lanes of output channels.

    Parameters
    ----------
    length : int
        K, real inputs of a dot product.
    word_at : callable
        ``word_at(place, plane, group, kh, kw, k)``: word k of a group of the input.
    border : callable, optional
        ``border(index, lanes)``: what is added at a place; there is no threshold then.
    threshold : Threshold, optional
        The group's epilogue, where it is one, of one group.
    """
    return _SlicedChannels(builder, anchor, shape, length, word_at, border, threshold).write()
