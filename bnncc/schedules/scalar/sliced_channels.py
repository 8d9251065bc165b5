"""Sliced formulation for dense layers and late convolutions: lanes are output channels, the majority tables come from the weights.

The table lies in flash and takes 4 bits a weight. The cases are made of the activations once a pixel, four in a word, and serve all output channels::

    for every pixel:
        queue: the words of its taps, then the exclusive or of every three
        cases: bits of three words side by side, with the row's place in a window of the table
        for every 32 output channels:  planes += table[row][case]      a row for every two inputs

With Helium the tables of four times 32 channels stand side by side, and their counters are the words of a vector.

A threshold is preloaded into the counters (`threshold`), and their carry out is the packed output. Two thresholds a channel, and inputs of two planes (a plain
Sign, which may be 0), are met by the planes of the counts instead, bit by bit: 5 instructions a plane, threshold and 32 channels. Before any other epilogue the
planes are transposed to counts. Of two planes of the input that are found equal one is counted.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.majority import CASES
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.scalar.channel_table import BITS, LAST_BIT, LAST_PIECES, LAST_ROWS, queue_words, table_of, table_words, triples
from bnncc.schedules.scalar.counters import BLOCK_WINDOW, WORD, Counter, add_block, add_planes, add_rows, chunk_of, full_adder, mask, zero_of
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
        self.two_planes = int(anchor.attrs.planes) == 2
        self.in_block = self.two_operands and not self.two_planes
        self.chunk = chunk_of(BITS * self.triples, builder.variant.vector_registers if self.wide == 1 else VECTOR_REGISTERS, self.in_block)
        self.chunks = BITS * self.triples // self.chunk
        self.case_words = BITS // 4 * (self.triples + 1)
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
            size = self.vectors * self.threshold.classes * self.threshold.count * self.threshold.planes * (1 + self.two_planes)
            self.starts = self.threshold.starts(self.builder, size, self._starts)
        self.queue = body.local(WORD, self.words + 1 + self.triples, "queue")
        self.cases = body.local(WORD, self.case_words * (1 + self.two_planes), "cases")
        if self.two_planes:  # of the second plane, words that are 0 unless it is counted
            self.parities = body.local(WORD, 2, "parities")
            self.last, self.carried = (self._zeros(2 * count, name) if count else None for count, name in ((LAST_BIT, "last"), (self.chunks, "carried")))
        if self.threshold is None:
            self.counts = body.local(WORD, shape.groups * self.vectors * BITS, "counts")
            self.planes = body.local(WORD, BITS // 2, "planes")
        evaluator = self.builder.evaluator
        with self.builder.lead_loops(self.anchor.shape[:-1]) as place:
            with evaluator.loop(shape.groups, "g") as g:
                self._cases(place, g)
                with evaluator.loop(self.vectors // self.wide, "v") as v:
                    self._vector(place, g * (self.vectors // self.wide) + v)
            if self.threshold is None:
                evaluator.define(self.anchor, self._value)
                self.builder.outputs.write(evaluator, place)
        return self.builder.kernel(f"sliced, lanes are channels, {self.shape.word} words")

    def _zeros(self, size: int, name: str):
        """Return a buffer of words of no bits."""
        buffer = self.body.local(self.word, size, name)
        with self.body.loop(size, "i") as i:
            self.body.store(buffer, i, zero_of(self.word))
        return buffer

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
        threshold = self.threshold
        words = []
        for planes in range(1 + self.two_planes, 0, -1):
            for own in start.swapaxes(0, 1).reshape(-1, start.shape[-1]):  # class by class
                words.append(self._lanes(threshold.start_number(own, planes)[:, None] >> np.arange(threshold.planes) & 1))
        return np.stack(words, 1).reshape(-1, self.wide, len(words) * threshold.planes).swapaxes(1, 2)

    # one pixel

    def _cases(self, place, g) -> None:
        """Write the cases of all planes of the input, and find the bits that are left."""
        body = self.body
        if not self.two_planes:
            self.left = [self._cases_of(place, g, 0)]
            return
        body.store(self.parities, 1, const(0, WORD))
        with body.loop(self.shape.planes, "plane") as plane:
            body.store(self.parities, plane, self._cases_of(place, g, plane))
        self.left = [body.bind(body.load(self.parities, i), "parity") for i in range(2)]

    def _cases_of(self, place, g, plane):
        """Write queue and cases of a plane of the input; return the bit that is left."""
        body, n, own = self.body, self.triples, plane * self.case_words
        self._read(place, g, plane)
        if n:
            with body.loop(n, "t") as t:
                three = [body.bind(body.load(self.queue, 3 * t + i), "x") for i in range(3)]
                body.store(self.queue, self.words + (self.words % 2 == 0) + t, three[0] ^ three[1] ^ three[2])
                self._spread(three, own + t * (BITS // 4), True)
        word = body.bind(body.load(self.queue, 3 * n), "x")
        thirds = [const(0, WORD) for _ in range(3)]
        for size, first in LAST_PIECES:
            parts = []
            for i in range(3):
                shifted = tirx.shift_right(word, const(i * size, WORD)) if i else word
                parts.append(body.bind(tirx.bitwise_and(shifted, const((1 << size) - 1, WORD)), "x"))
            thirds = [third | tirx.shift_left(part, const(first, WORD)) for third, part in zip(thirds, parts, strict=True)]
            word = body.bind(parts[0] ^ parts[1] ^ parts[2], "x")
        self._spread([body.bind(third, "x") for third in thirds], own + n * (BITS // 4), False)
        return body.bind(mask(word, 0), "parity")

    def _read(self, place, g, plane) -> None:
        """Read all words of a plane of a pixel into the queue."""
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
            word = self.word_at(place, plane, g, i, j, w)
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

    def _vector(self, place, vector) -> None:
        """Count the differing bits of 32 channels, or of as many in every word of a vector."""
        body, threshold = self.body, self.threshold
        base = body.bind(vector * self.table_words, "base") if not isinstance(vector, int) else vector * self.table_words
        own = self._load(self.table, base + (BITS * self.triples + LAST_ROWS) * CASES)
        parities = [body.bind(spread(parity, self.wide) ^ own, "parity") for parity in self.left]
        counter = Counter(body, two_operands=self.two_operands, word=self.word)
        if threshold is not None and threshold.count == 1 and not self.two_planes:
            levels, start = self.chunk.bit_length() - 1, self._start(place, vector, 0)
            threshold.prepare(counter, start, parities, levels)
            self._add(counter, base)
            return self._write(place, vector, 0, body.bind(threshold.answer(counter, start, levels), "answer"))
        if self.two_planes:
            parities[1] = body.bind(tirx.bitwise_and(parities[1], self._second()), "parity")
            counter.add(body.bind(tirx.bitwise_and(*parities), "m"), 0)
            parities = [body.bind(tirx.bitwise_xor(*parities), "parity")]
        self._add(counter, base)
        count = self.length.bit_length() + self.two_planes if threshold is None else threshold.top
        planes = [*parities, *counter.planes(count - 1)]
        if threshold is None:
            for bit, plane in enumerate(planes):
                body.store(self.planes, bit, plane)
            transpose(body, (self.planes, 0), 1, count, (self.counts, vector * BITS), 1)
            return
        for number in range(threshold.count):
            start = self._start(place, vector, number)
            carry = body.bind(tirx.bitwise_and(planes[0], start[0]()), "m")
            for plane, more in zip(planes[1:], start[1:-1], strict=True):
                _, carry = full_adder(body, plane, body.bind(more(), "start"), carry, self.two_operands)
            self._write(place, vector, number, body.bind(tirx.bitwise_or(carry, start[-1]()), "answer"))

    def _second(self):
        """Return ones where the second plane of the input is counted, else zeros."""
        counted = tirx.Select(tirx.EQ(self.shape.planes, 2), const(0xFFFFFFFF, WORD), const(0, WORD))
        return spread(self.body.bind(counted, "counted"), self.wide)

    def _write(self, place, vector, number, answer) -> None:
        """Store the answers to a threshold."""
        if self.wide == 1:
            return self._store(place, vector, number, answer)
        answers = self.body.local(WORD, self.wide, "answers")
        store_vector(self.body, answers, 0, answer)
        for i in range(self.wide):
            self._store(place, vector * self.wide + i, number, self.body.load(answers, i))

    def _load(self, buffer, index):
        """Return a word of a table, or those of all tables that stand side by side."""
        return self.body.load(buffer, index) if self.wide == 1 else load_vector(self.body, buffer, index * self.wide)

    def _add(self, counter: Counter, base) -> None:
        body, rows = self.body, BITS * self.triples

        def look(chunk, plane=0):
            table = body.part(self.table, (base + chunk * (self.chunk * CASES)) * self.wide, self.chunk * CASES * self.wide, "rows")
            own = body.part(self.cases, plane * self.case_words + chunk * (self.chunk // 4), self.chunk // 4, "own")

            def word(place):
                case = tirx.Cast("int32", peek(body, own, 0, "uint8", place))
                window = place // self.window * self.window * CASES
                return self._load(table, window + case) if self.scaled else peek(body, table, window, WORD, case)

            return word

        if not self.two_planes:
            block = functools.partial(add_block, body, (self.table, base), (self.cases, 0)) if self.in_block else None
            add_rows(counter, rows, look, self.chunk, block=block)
            for word in self._last(base, 0):
                counter.add(body.bind(word, "w"))
            return
        if rows:
            add_planes(counter, self.chunks, lambda plane, chunk: look(chunk, plane), self.chunk, self.shape.planes, self.carried)
        with body.loop(self.shape.planes, "plane") as plane:
            for i, word in enumerate(self._last(base, plane)):
                body.store(self.last, plane * LAST_BIT + i, word)
        for i in range(2 * LAST_BIT):
            counter.add(body.bind(body.load(self.last, i), "w"))

    def _last(self, base, plane) -> Iterator:
        """Yield the words of the triples of a plane's last word."""
        body = self.body
        places = {bit % 8 * 4 + bit // 8: bit for bit in range(LAST_BIT)}
        for place, bit in sorted(places.items()):
            case = tirx.Cast("int32", peek(body, self.cases, plane * self.case_words + BITS // 4 * self.triples, "uint8", place))
            row = base + (BITS * self.triples + bit) * CASES
            yield self._load(self.table, row + case) if self.scaled else peek(body, self.table, row, WORD, case)

    def _start(self, place, vector, number: int) -> list[Callable]:
        """Return what makes the planes that a limit of the channels starts from at a place."""
        bits, threshold = range(self.threshold.planes), self.threshold
        if isinstance(self.starts, int):
            if not self.two_planes:
                return [functools.partial(const, 0xFFFFFFFF if self.starts >> bit & 1 else 0, WORD, self.wide) for bit in bits]
            word = self.body.bind(threshold.start_word(const(self.starts, WORD), self.shape.planes), "start")
            return [lambda bit=bit: spread(mask(word, bit), self.wide) for bit in bits]
        of_planes = threshold.classes * threshold.count * len(bits)
        first = vector * ((1 + self.two_planes) * of_planes) + number * len(bits)
        if self.two_planes:
            first = first + (2 - self.shape.planes) * of_planes
        if threshold.border:
            table, *axes = threshold.border
            row, column = (self.body.load(self.builder.buffers[classes], at) for classes, at in zip(axes, place[1:3], strict=True))
            first = first + (row * table.shape[1] + column) * (threshold.count * len(bits))
        first = self.body.bind(first, "first") if not isinstance(first, int) else first
        return [functools.partial(self._load, self.starts, first + bit) for bit in bits]

    # results

    def _store(self, place, vector, number, answer) -> None:
        """Store the bits of 32 channels as words of a plane of the output."""
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
                self.builder.store_word(pack, (*place, word + number * layout.words), part)

    def _value(self, index, lanes):
        """Return the dot product of a channel from its count."""
        channel, outputs = index[-1], self.shape.outputs
        lane = channel if outputs % BITS == 0 or self.shape.groups == 1 else channel // outputs * (self.vectors * BITS) + channel % outputs
        count = tirx.Cast("int32", self.body.load(self.counts, lane))
        value = const(self.length, "int32") - count * (3 - self.shape.planes if self.two_planes else 2)
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
        ``border(index, lanes)``: what is added at a place, where no threshold has it in its limits.
    threshold : Threshold, optional
        The group's epilogue, where it is one, of one group.
    """
    return _SlicedChannels(builder, anchor, shape, length, word_at, border, threshold).write()
