"""Sliced formulation for early convolutions: lanes are output pixels, the majority tables come from the activations.

A block of 32 output pixels (rows of it, or a part of a row) shares one table, made once for all output channels; the cases come from the weights, at compile
time::

    for every block of pixels:
        new rows of the input -> bit planes [row][channel], by transposition of 32 x 32 bits
        table: for every channel the triples of its taps, then triples of what they leave, then of what these leave, ...
        for every output channel:  planes += table[row][case]      a row for every two inputs, 7 instructions of Thumb-2
        32 channels -> words of the pixels, by transposition

A threshold is preloaded into the counters (`threshold`), and the carry out of the top plane is the bit; before any other epilogue the planes are transposed to
counts. The cases take a byte for two weights, or as nibbles half of that, for one more instruction a row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.formulations.majority import CASES, cases_of
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.scalar.counters import BLOCK_WINDOW, WORD, Counter, add_block, add_planes, add_rows, mask, zero_of
from bnncc.schedules.scalar.pixel_blocks import LANES, PixelBlocks, first_of
from bnncc.schedules.scalar.pixel_table import PixelTable
from bnncc.schedules.scalar.threshold import Threshold
from bnncc.schedules.scalar.words import VECTOR, VECTOR_WORDS, keep_vector, load_vector, peek, store_vector, transpose, transpose_vectors
from bnncc.schedules.statements import const, spread

__all__ = ["SlicedPixels", "sliced_pixels"]


class SlicedPixels:
    """Writes the kernel of a convolution.

    Parameters
    ----------
    builder : Builder
    anchor : Tensor
        ``bnn.packed_conv2d``.
    shape : BinaryShape
    blocks : PixelBlocks
    threshold : Threshold, optional
        The group's epilogue, where it is one.
    nibbles : bool
        Whether cases stand two in a byte.
    """

    def __init__(self, builder: Builder, anchor: Tensor, shape: BinaryShape, blocks: PixelBlocks, threshold: Threshold | None, nibbles: bool):
        self.builder, self.body, self.anchor, self.shape, self.blocks = builder, builder.body, anchor, shape, blocks
        self.threshold, self.nibbles = threshold, nibbles
        self.scaled, self.two_operands = ("scaled-index" in builder.variant.instructions), ("two-operands" in builder.variant.instructions)
        self.x, self.w = anchor.args[:2]
        self.length = shape.inputs * shape.taps[0] * shape.taps[1]
        self.word = VECTOR if blocks.stacked > 1 else WORD
        self.words = VECTOR_WORDS if blocks.stacked > 1 else 1
        self.in_block = self.two_operands and not nibbles and int(anchor.attrs.planes) == 1
        self.table = PixelTable(builder, anchor, shape, blocks, self.word, self.in_block)
        self.rows, self.chunk = self.table.rows, self.table.chunk
        # a case with its row's place in a window: what one byte holds, scaled to bytes where the processor cannot scale
        self.window = self.chunk if self.scaled else BLOCK_WINDOW
        self.cases_of_channel = self.table.chunks * self.chunk if self.table.two_planes else self.rows
        self.stride = self.cases_of_channel + 1 if not nibbles else -(-(self.cases_of_channel + 1) // 8)

    def write(self) -> Kernel:
        """Write everything."""
        body, blocks, shape = self.body, self.blocks, self.shape
        dtype = WORD if self.nibbles else "uint8"
        size = self.w.shape[0] * self.stride
        if self.threshold is None:
            self.cases = self.builder.replace(self.w, size, dtype, self._arrange)
        else:
            self.cases = self.threshold.complement(self.builder, self.w, size, dtype, self._arrange)
            self.starts = self.threshold.starts(self.builder, self.threshold.count * self.threshold.classes * self.w.shape[0], lambda x: x)
        self._outputs()
        with body.loop(self.anchor.shape[0], "n") as n, body.loop(blocks.across, "bx") as bx:
            x0 = first_of(bx, blocks.width, blocks.breadth)
            with body.loop(blocks.down, "by") as by:
                y0 = first_of(by, blocks.covered, blocks.height)
                self.table.read_rows(n, by, y0, x0)
                if self.border:
                    self._lanes_of_classes(y0, x0)
                with body.loop(shape.groups, "g") as g:
                    self._channels(g, y0)
                self._write_block(n, y0, x0)
        kind = "nibbles" if self.nibbles else "bytes"
        times = f"{blocks.stacked} x " if blocks.stacked > 1 else ""
        return self.builder.kernel(f"sliced, lanes are {times}{blocks.rows} x {blocks.width} pixels, cases in {kind}")

    # compile time

    def _arrange(self, words: np.ndarray) -> np.ndarray:
        """Turn packed weights of shape (outputs, KH, KW, words) into cases, behind those of a channel its parity."""
        outputs = words.shape[0]
        octets = np.ascontiguousarray(words).view(np.uint8).reshape(outputs, self.shape.taps[0] * self.shape.taps[1], -1)
        bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., : self.shape.inputs].swapaxes(1, 2)
        cases, parity = cases_of(bits)
        cases = np.pad(cases, ((0, 0), (0, self.cases_of_channel - self.rows)))
        if not self.nibbles:
            places = np.arange(self.cases_of_channel) % self.window * CASES
            cases = (cases.astype(np.int64) + places) << (0 if self.scaled else 2)
            return np.concatenate([cases, parity[:, None]], axis=1).astype(np.uint8).reshape(-1)
        nibbles = np.zeros((outputs, self.stride * 8), np.uint32)
        nibbles[:, : self.cases_of_channel], nibbles[:, self.cases_of_channel] = cases, parity
        return (nibbles.reshape(outputs, -1, 8) << np.arange(0, 32, 4, dtype=np.uint32)).sum(axis=-1, dtype=np.uint32).reshape(-1)

    @property
    def border(self) -> tuple:
        """Border table, classes of rows, classes of columns; nothing where there is no border."""
        return self.anchor.args[2:]

    def _channels(self, g, y0) -> None:
        """Make the table of one group of channels and count for all its outputs."""
        body, shape = self.body, self.shape
        if self.table.two_planes:
            body.store(self.parities, 1, zero_of(self.word))
            with body.loop(shape.planes, "plane") as plane:
                body.store(self.parities, plane, self.table.make(g, y0, plane))
            parities = [body.load(self.parities, i) for i in range(2)]
        else:
            parities = [self.table.make(g, y0)]
        with body.loop(shape.outputs, "o") as o:
            self._output(g * shape.outputs + o, parities)

    # one output channel

    def _output(self, o, parities: list) -> None:
        body = self.body
        first = body.bind(o * self.stride, "first")
        if self.nibbles:
            at = self.cases_of_channel
            own = tirx.shift_right(body.load(self.cases, first + at // 8), tirx.const(at % 8 * 4, WORD))
        else:
            own = tirx.Cast(WORD, body.load(self.cases, first + self.cases_of_channel))
        own = body.bind(spread(mask(own, 0), self.words), "own")
        parities = [body.bind(tirx.bitwise_xor(parity, own), "parity") for parity in parities]
        if len(parities) == 2:  # that of the second plane only where it is counted
            counted = tirx.Select(tirx.EQ(self.shape.planes, 2), const(0xFFFFFFFF, WORD), const(0, WORD))
            parities[1] = body.bind(tirx.bitwise_and(parities[1], spread(counted, self.words)), "parity")
        if self.threshold is None:
            return self._count_output(o, first, parities)
        count, word_bit = self.threshold.count, self.threshold.layout.locate(o)
        if count == 1:
            return self._answer(o, 0, first, parities, word_bit)
        with body.loop(count, "limit") as number:
            # where both limits are one, as they are where no sum is the 0 of a sign, so are both answers
            with body.when(tirx.Or(tirx.EQ(number, 0), self._differs(o))):
                self._answer(o, number, first, parities, word_bit)
        with body.when(tirx.Not(self._differs(o))):
            word, bit = word_bit
            words = self.threshold.layout.words
            for i in range(self.words):
                to, source = ((at * LANES + bit) * self.words + i for at in (words + word, word))
                body.store(self.found, to, body.load(self.found, source))

    def _differs(self, o):
        """Tell whether the limits of a channel differ, in any class of places."""
        starts, classes, channels = self.starts, self.threshold.classes, self.w.shape[0]
        pairs = ((k * channels + o, (classes + k) * channels + o) for k in range(classes))
        return functools.reduce(tirx.Or, (tirx.NE(self.body.load(starts, a), self.body.load(starts, b)) for a, b in pairs))

    def _answer(self, o, number, first, parities: list, word_bit: tuple) -> None:
        """Find the bits of one limit of a channel."""
        body, (word, bit) = self.body, word_bit
        start, levels = self._start(number, o), self.chunk.bit_length() - 1
        counter = Counter(body, two_operands=self.two_operands, word=self.word)
        self.threshold.prepare(counter, start, parities, levels)
        self._add(counter, first)
        at, answer = (number * self.threshold.layout.words + word) * LANES + bit, self.threshold.answer(counter, start, levels)
        if self.words == 1:
            body.store(self.found, at, answer)
        else:
            store_vector(body, self.found, at * self.words, answer)

    def _count_output(self, o, first, parities: list) -> None:
        """Count for an epilogue of another kind."""
        body, counter = self.body, Counter(self.body, two_operands=self.two_operands)
        planes = self.length.bit_length() - 1 + self.table.two_planes
        if len(parities) == 2:
            counter.add(body.bind(tirx.bitwise_and(*parities), "m"), 0)
            parities = [body.bind(tirx.bitwise_xor(*parities), "parity")]
        self._add(counter, first)
        self._store_counts(o, [*parities, *counter.planes(planes)])

    def _add(self, counter: Counter, first) -> None:
        table, look = self.table, self._look(first)
        if table.two_planes:
            add_planes(counter, table.chunks, lambda plane, chunk: look(chunk, plane), self.chunk, self.shape.planes, self.carried)
        else:
            block = functools.partial(add_block, self.body, (table.buffer, 0), (self.cases, first)) if self.in_block else None
            add_rows(counter, self.rows, look, self.chunk, table.slot if table.slots else None, block=block)

    def _look(self, first):
        """Return ``look(chunk)(place)``: a word of the table."""
        body = self.body

        def look(chunk, plane=0):
            start = self.table.place(chunk * self.chunk) + (plane * self.table.region if self.table.two_planes else 0)
            rows = body.part(self.table.buffer, start, self.chunk * CASES, "rows")
            size = self.chunk // 8 if self.nibbles else self.chunk
            own = body.part(self.cases, first + chunk * size, size, "own")
            words = {}

            def word(place):
                if self.nibbles:
                    if place // 8 not in words:
                        words[place // 8] = body.bind(body.load(own, place // 8), "n")
                    case = tirx.bitwise_and(tirx.shift_right(words[place // 8], tirx.const(place % 8 * 4, WORD)), tirx.const(7, WORD))
                    return body.load(rows, place * CASES + tirx.Cast("int32", case))
                case, window = tirx.Cast("int32", body.load(own, place)), place // self.window * self.window * CASES
                return body.load(rows, window + case) if self.scaled else peek(body, rows, window, WORD, case)

            return word

        return look

    def _start(self, number, o) -> list[Callable]:
        """Return what makes the planes that the counters of a limit of a channel start from."""
        threshold, planes = self.threshold, range(self.threshold.planes)
        if self.border:
            return self._start_with_border(number, o)
        if isinstance(self.starts, int) and threshold.input_planes == 1:
            return [functools.partial(const, 0xFFFFFFFF if self.starts >> bit & 1 else 0, WORD, self.words) for bit in planes]
        word = const(self.starts, WORD) if isinstance(self.starts, int) else self.body.load(self.starts, number * self.w.shape[0] + o)
        word = self.body.bind(threshold.start_word(word, self.shape.planes), "start")
        return [lambda bit=bit: spread(mask(word, bit), self.words) for bit in planes]

    # a border: what it adds depends on the pixel

    def _lanes_of_classes(self, y0, x0) -> None:
        """Find the lanes of each class of rows and columns."""
        body, blocks = self.body, self.blocks
        table, rows, columns = self.border
        many = table.shape[0] * table.shape[1]
        with body.loop(many * self.words, "k") as k:
            body.store(self.class_lanes, k, const(0, WORD))
        with body.loop(blocks.stacked, "i") as i, body.loop(blocks.rows, "r") as r, body.loop(blocks.width, "p") as p:
            row, column = body.load(self.builder.buffers[rows], y0 + i * blocks.rows + r), body.load(self.builder.buffers[columns], x0 + p)
            at = body.bind((row * table.shape[1] + column) * self.words + i, "k")
            lane = tirx.shift_left(tirx.const(1, WORD), tirx.Cast(WORD, r * blocks.width + p))
            body.store(self.class_lanes, at, tirx.bitwise_or(body.load(self.class_lanes, at), lane))

    def _start_with_border(self, number, o) -> list[Callable]:
        body = self.body
        start = [body.local(self.word, 1, "start") for _ in range(self.threshold.planes)]
        for plane in start:
            body.store(plane, 0, zero_of(self.word))
        with body.loop(self.threshold.classes, "k") as k:
            words = [body.load(self.class_lanes, k * self.words + i) for i in range(self.words)]
            with body.when(tirx.NE(functools.reduce(tirx.bitwise_or, words), const(0, WORD))):
                lanes = body.bind(words[0] if self.words == 1 else load_vector(body, self.class_lanes, k * self.words), "lanes")
                word = body.load(self.starts, (number * self.threshold.classes + k) * self.w.shape[0] + o)
                word = body.bind(self.threshold.start_word(body.bind(word, "start"), self.shape.planes), "start")
                for bit, plane in enumerate(start):
                    chosen = tirx.bitwise_and(spread(mask(word, bit), self.words), lanes)
                    body.store(plane, 0, tirx.bitwise_or(body.load(plane, 0), chosen))
        return [functools.partial(body.load, plane, 0) for plane in start]

    # results

    def _outputs(self) -> None:
        """Allocate what a block's results are gathered in."""
        body = self.body
        if self.table.two_planes:
            self.table.clear()
            self.parities = body.local(self.word, 2, "parities")
            self.carried = body.local(self.word, 2 * self.table.chunks, "carried")
            with body.loop(2 * self.table.chunks, "i") as i:
                body.store(self.carried, i, zero_of(self.word))
        if self.border:
            self.class_lanes = body.local(WORD, self.border[0].shape[0] * self.border[0].shape[1] * self.words, "lanes")
        if self.threshold is not None:
            self.turned = body.local(WORD, LANES * self.words, "turned")
            if self.words > 1:
                self.side_by_side = keep_vector(body, [const(4 * i, WORD) for i in range(self.words)])
            words = self.threshold.layout.words * self.threshold.count
            self.found = body.local(WORD, words * LANES * self.words, "found")
            with body.loop(words * LANES * self.words, "i") as i:
                body.store(self.found, i, const(0, WORD))
            return
        self.pairs = -(-self.w.shape[0] // 2)
        self.counts = body.local(WORD, LANES * self.pairs, "counts")
        self.halves = body.local(WORD, LANES, "halves")
        with body.loop(LANES, "i") as i:
            body.store(self.halves, i, const(0, WORD))

    def _store_counts(self, o, planes: list) -> None:
        """Keep the planes of two channels, then turn them into counts of 16 bits: the lower half is that of the even channel."""
        body, half = self.body, LANES // 2
        odd = body.bind(o % 2, "odd")
        for bit, plane in enumerate(planes):
            body.store(self.halves, odd * half + bit, plane)
        with body.when(tirx.Or(tirx.EQ(odd, 1), tirx.EQ(o, self.w.shape[0] - 1))):
            transpose(body, (self.halves, 0), 1, LANES, (self.counts, o // 2), self.pairs)

    def _write_block(self, n, y0, x0) -> None:
        body, blocks = self.body, self.blocks
        if self.threshold is not None:
            (pack,) = self.builder.group.outputs
            words = self.threshold.layout.words * self.threshold.count
            with body.loop(words, "word") as word:
                found = self.found, word * (LANES * self.words)
                if self.words == 1:
                    transpose(body, found, 1, LANES, (self.turned, 0), 1)
                else:
                    transpose_vectors(body, found, self.words, LANES, self.side_by_side, (self.turned, 0))
                for r in range(blocks.rows):
                    with body.loop(blocks.width, "p") as p, body.loop(blocks.stacked, "i") as i:
                        y, x = y0 + i * blocks.rows + r, x0 + p
                        place = (y, x) if blocks.breadth == self.anchor.shape[2] else (0, y * blocks.breadth + x)
                        self.builder.store_word(pack, (n, *place, word), tirx.Cast(pack.dtype, body.load(self.turned, (r * blocks.width + p) * self.words + i)))
            return
        from_tile = self._value_of_counts()
        with self.builder.evaluator.loop(blocks.rows, "r") as r, self.builder.evaluator.loop(blocks.width, "p") as p:
            self.builder.evaluator.define(self.anchor, lambda index, lanes: from_tile(r * blocks.width + p, index))
            self.builder.outputs.write(self.builder.evaluator, (n, y0 + r, x0 + p))

    def _value_of_counts(self):
        def value(lane, index):
            channel = index[-1]
            pair = self.body.load(self.counts, lane * self.pairs + channel // 2)
            count = tirx.bitwise_and(tirx.shift_right(pair, tirx.Cast(WORD, channel % 2 * 16)), tirx.const(0xFFFF, WORD))
            times = 3 - self.shape.planes if self.table.two_planes else 2  # the sum of both planes, or twice that of one
            result = tirx.const(self.length, "int32") - tirx.Cast("int32", count) * times
            if self.border:
                table, rows, columns = self.border
                at = [self.builder.evaluator.value(classes, (place,), 1) for classes, place in ((rows, index[1]), (columns, index[2]))]
                result = result + self.builder.evaluator.value(table, (*at, channel), 1)
            return result

        return value


def sliced_pixels(builder: Builder, anchor: Tensor, shape: BinaryShape, blocks: PixelBlocks, threshold: Threshold | None, nibbles: bool) -> Kernel:
    """Build ``bnn.packed_conv2d`` and its epilogue with lanes of pixels."""
    return SlicedPixels(builder, anchor, shape, blocks, threshold, nibbles).write()
