"""Codes of a few channels by signs: first layers on the bytes of an image, without a multiplication.

Two pixels of an output row stand in the halves of a word, far enough apart that the loop over one half of the row makes both. Sums of a few taps, for all
their signs, are made once (`tap_sums`), row by row into a ring of as many rows as the kernel has (`sum_table`); an output channel adds or subtracts a word for
each slot of its taps::

    for every row of outputs:
        new rows of the input -> sums[row % KH][column][slot, signs]
        for every pair of pixels, or, in vectors, four pairs:
            acc = start[o] + rows[0][17] - rows[0][40] + rows[1][3] ...        for each output channel o

Which words these are stands in the code, in a straight line, and sums that channels have in common are made once (`shared_sums`); or, where flash is short or
signs are many, in a byte for each slot, and channels are a loop.

Ranges. A word is ``low + 65536 * high`` for signed sums low and high, modulo 2^32; sums of words are words of the sums, whatever was borrowed between the
halves on the way. It is read off the halves at the end if both are in 0 .. 65535 then, and that is what starts are for. With a threshold t a channel starts
from ``2^15 - t`` in both halves: bit 15 of a half says whether the sum reaches t, as long as K codes of a range R have ``K * R < 2^15``; thresholds beyond
what sums can be are brought to the nearest that they cannot pass. The bits of 16 channels are shifted into one word, which holds those of both pixels then.
Before any other epilogue starts are the least sum, negated, and ``K * R < 2^16``.

Instructions of Thumb-2 for a channel of two pixels: 2 a slot that it shares with no other (load, add), 4 for start and bit; with bytes 3 a slot. 3 x 3 taps of
3 channels take 9 slots, or 6 of larger tables: 12, 9 or 20 instructions for 32 multiply-accumulates, where products of bytes take 97.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.ops.signed_sum_conv2d import signs_of
from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.evaluate import layout_of
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.scalar.counters import WORD
from bnncc.schedules.scalar.shared_sums import SharedSum, Term, share_sums
from bnncc.schedules.scalar.sum_table import BOTH, HALF, SumTable
from bnncc.schedules.scalar.tap_sums import TapSums, find_tap_sums
from bnncc.schedules.scalar.words import VECTOR_WORDS, load_vector, peek, store_vector
from bnncc.schedules.statements import const, spread

__all__ = ["fits_halves", "signed_sum_conv2d"]

_TOP_BITS = 0x80008000
_MOST_CODE = 1 << 13
"""Signs that are written as code, about two bytes each."""


def fits_halves(inputs: int, lo: int, hi: int) -> bool:
    """Tell whether the sums of so many codes, from `lo` to `hi`, added or subtracted, can be told apart in 16 bits."""
    return inputs * (hi - lo) < 1 << HALF


@dataclass(frozen=True)
class _Threshold:
    """An epilogue of one threshold a channel and packing."""

    limits: Tensor
    flip: Tensor
    layout: PackedLayout
    pack: Tensor


class SignedSums:
    """Writes the kernel.

    Parameters
    ----------
    builder : Builder
    anchor : Tensor
        ``bnn.signed_sum_conv2d``, without groups and dilation.
    """

    def __init__(self, builder: Builder, anchor: Tensor):
        self.builder, self.body, self.anchor, variant = builder, builder.body, anchor, builder.variant
        self.x, self.w = anchor.args
        self.outputs, self.kh, kw, channels = self.w.shape
        attrs = anchor.attrs
        self.signs = signs_of(attrs, self.w.shape)
        self.breadth = anchor.shape[2]
        self.half = -(-self.breadth // 2)
        codes = sorted((int(attrs.lo), int(attrs.hi), *([int(attrs.pad_code)] if any(map(int, attrs.padding)) else [])))
        flat = self.signs.reshape(self.outputs, -1).astype(np.int64)
        ends = np.stack([flat * codes[0], flat * codes[-1]])
        self.least, self.largest = ends.min(0).sum(1), ends.max(0).sum(1)
        self.offset = int(max(0, -self.least.min()))
        short = variant.optimize_for == "flash" or self.w.size > _MOST_CODE
        self.in_data = builder.choices.choose("signs", "data" if short else "code", ("code", "data")) == "data"
        self.lanes = VECTOR_WORDS if "mve" in variant.instructions and self.half >= VECTOR_WORDS else 1
        self.scaled = "scaled-index" in variant.instructions or "two-operands" not in variant.instructions
        columns = (self.half - 1) * int(attrs.strides[1]) + kw
        near = "two-operands" in variant.instructions
        found = find_tap_sums((self.kh, kw), channels, self.outputs, columns, int(attrs.strides[1]), variant.optimize_for, near, self.in_data)
        self.sums: TapSums = found[builder.choices.choose("taps of sums", next(iter(found)), tuple(found))]
        self.threshold = self._threshold()
        # where no operand is shifted on its way, bits of channels in any order cost more than what is shared
        turns = self.threshold is None or self.lanes > 1 or "scaled-index" in variant.instructions
        self.shares = not self.in_data and builder.choices.choose("sums", "shared" if turns else "apart", ("shared", "apart")) == "shared"

    def _threshold(self) -> _Threshold | None:
        """Return the epilogue where it is one threshold a channel, packed."""
        group = self.builder.group
        nodes = [node for node in group.nodes if node is not self.x]
        if len(nodes) != 3 or len(group.outputs) != 1 or (self.largest - self.least).max() >= 1 << (HALF - 1):
            return None
        _, quantize, pack = nodes
        if quantize.op != "relax.bnn.quantize" or pack.op != "relax.bnn.pack" or group.outputs[0] is not pack:
            return None
        if quantize.args[0] is not self.anchor or pack.args[0] is not quantize or int(pack.attrs.step) or int(pack.attrs.planes) != 1:
            return None
        limits, flip = quantize.args[1:]
        if limits.dtype != "int32" or limits.shape[0] != 1 or (int(quantize.attrs.lo), int(quantize.attrs.step)) != (-1, 2):
            return None
        if not all(group.is_constant(tensor) and tensor.size in (1, self.outputs) for tensor in (limits, flip)):
            return None
        layout = layout_of(pack).normal()
        return _Threshold(limits, flip, layout, pack) if layout.groups == 1 else None

    # compile time

    def _records(self) -> None:
        """Give the weights' buffer a record a channel, what it starts from and the bytes of its slots, and behind them which bits are to be turned over."""
        threshold, slots = self.threshold, self.kh * len(self.sums.lookups)
        self.record = 1 + (-(-slots // 4) if self.in_data else 0)
        hosts = [tensor for tensor in (threshold.limits, threshold.flip) if tensor.constant is None] if threshold else []

        def arrange(_, *arrays: np.ndarray) -> np.ndarray:
            starts, turned = self._starts(dict(zip(hosts, arrays, strict=True)))
            cases = np.zeros((self.outputs, 4 * (self.record - 1)), np.uint8)
            if self.in_data:
                cases[:, :slots] = self._cases()
            return np.concatenate([np.column_stack([starts, cases.view("<u4")]).reshape(-1), turned]).astype(np.uint32)

        words = threshold.layout.words if threshold else 0
        self.records = self.builder.replace(self.w, self.outputs * self.record + words, WORD, arrange, tuple(hosts))
        self.builder.read_at_compile_time(*hosts)

    def _starts(self, known: dict[Tensor, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return what channels start from, and the words of those whose bits are turned over."""
        threshold = self.threshold
        if threshold is None:
            return np.full(self.outputs, self.offset * BOTH), np.zeros(0, np.uint32)
        limits, flip = (np.broadcast_to(known.get(t, t.constant), t.shape).reshape(-1) for t in (threshold.limits, threshold.flip))
        limits, rises = np.broadcast_to(limits, self.outputs).astype(np.int64), np.broadcast_to(flip > 0, self.outputs)
        # the bit says -1: the sum is below its limit, or, where codes fall with it, above
        limits = np.clip(np.where(rises, limits, limits + 1), self.least, self.largest + 1)
        turned = np.packbits(np.pad(rises, (0, 32 * threshold.layout.words - self.outputs)), bitorder="little").view("<u4")
        return ((1 << HALF - 1) - limits) * BOTH % (1 << 32), turned

    def _cases(self) -> np.ndarray:
        """Return the byte of each slot, channel by channel: which word of its column, or how far from the start of the row where a byte can say that."""
        lookups = [(i, *lookup) for i in range(self.kh) for lookup in self.sums.lookups]
        cases = np.array([[self._case(o, *lookup)[0] for lookup in lookups] for o in range(self.outputs)])
        ahead = np.array([column * self.sums.words if self._is_near else 0 for _, _, column in lookups])
        return (cases + ahead) * (1 if self.scaled or self.lanes > 1 else 4)

    @property
    def _is_near(self) -> bool:
        """Whether a byte reaches from the start of a row to all words of its slots."""
        return self.lanes == 1 and (self.w.shape[2] * self.sums.words) <= (256 if self.scaled else 64)

    def _case(self, o: int, i: int, number: int, column: int) -> tuple[int, bool]:
        slot = self.sums.slots[number]
        return slot.find(self.signs[o, i, column : column + slot.columns, slot.first : slot.first + slot.channels])

    # run time

    def write(self) -> Kernel:
        """Write everything."""
        body, evaluator = self.body, self.builder.evaluator
        self._records()
        self.table = SumTable(self.builder, self.anchor, self.sums, self.half, self.lanes > 1)
        if self.lanes > 1 or self.threshold is None:
            self.found = body.local(WORD, self.lanes * (2 if self.threshold else self.outputs), "found")
        with evaluator.loop(self.anchor.shape[0], "n") as n, evaluator.loop(self.anchor.shape[1], "y") as y:
            self.table.make_rows(n, y)
            with evaluator.loop(-(-self.half // self.lanes), "x") as x:
                if self.half % self.lanes:
                    x = body.bind(tirx.min(x * self.lanes, tirx.const(self.half - self.lanes, "int32")), "x")
                else:
                    x = x * self.lanes
                rows = [self.table.row(y, i, x) for i in range(self.kh)]
                if self.threshold is None:
                    self._values(n, y, x, rows)
                else:
                    self._bits(n, y, x, rows)
        where, how = "bytes" if self.in_data else "the code", "thresholds in the starts" if self.threshold else "sums in memory"
        return self.builder.kernel(f"sums of {self.sums.name} taps a row of the kernel, lanes are {2 * self.lanes} pixels, signs in {where}, {how}")

    def _number(self, value: int):
        return const(value, WORD, self.lanes)

    def _channel(self, o, rows: list):
        """Return the word of an output channel, or the vector of words, by the bytes of its slots."""
        body, table = self.body, self.table
        record = body.part(self.records, o * self.record, self.record, "channel")
        acc = spread(body.load(record, 0), self.lanes)
        for number, (row, (_, at)) in enumerate(itertools.product(rows, self.sums.lookups)):
            column = 0 if self._is_near else table.place(at)
            case = tirx.Cast("int32", peek(body, record, 1, "uint8", tirx.const(number, "int32")))
            if self.lanes == 1 and not self.scaled:
                acc = acc + peek(body, row, column, WORD, case)
            else:
                acc = acc + self._load(row, case * table.step + column)
        return body.bind(acc, "acc")

    def _channels(self, first: int, count: int, rows: list) -> Iterator[tuple]:
        """Yield the numbers and the words of channels; where sums that several share are made once, not in order."""
        body, table = self.body, self.table
        slots = [(i, *lookup) for i in range(self.kh) for lookup in self.sums.lookups]
        cases = np.array([[self._case(o, *slot) for slot in slots] for o in range(first, first + count)])

        def add(total, terms: tuple[Term, ...]):
            for term in terms:
                i, _, column = slots[term.slot]
                word = self._load(rows[i], table.place(column) + term.word * table.step)
                total = word if total is None else total - word if term.is_minus else total + word
            return total

        def walk(node: SharedSum, above) -> Iterator[tuple]:
            shared = body.bind(add(above, node.terms), "shared") if node.terms else None
            for further in node.sums:
                yield from walk(further, shared)
            for channel in node.channels:
                acc = spread(body.load(self.records, first + channel.number), self.lanes)
                if shared is not None:
                    acc = acc - shared if channel.is_negated else acc + shared
                yield first + channel.number, body.bind(add(acc, channel.terms), "acc")

        yield from walk(share_sums(cases[..., 0], cases[..., 1] > 0, 2 if self.shares else count + 1), None)

    def _load(self, row, index):
        return load_vector(self.body, row, index) if self.lanes > 1 else self.body.load(row, index)

    def _bits(self, n, y, x, rows: list) -> None:
        """Find the bits of all output channels, and store the words of all pixels."""
        whole, rest = divmod(self.outputs, 32)
        if self.in_data:
            with self.body.loop(whole, "word") as word:
                self._word(n, y, x, rows, word, 32)
        else:
            for word in range(whole):
                self._word(n, y, x, rows, word, 32)
        if rest:
            self._word(n, y, x, rows, whole, rest)

    def _word(self, n, y, x, rows: list, word, count: int) -> None:
        """Find the bits of a word of channels, and store it for all pixels."""
        body, pack, half = self.body, self.threshold.pack, self._number(HALF)
        if self.in_data:
            halves = [self._sixteen(word * 32 + at, min(count - at, HALF), rows) for at in range(0, count, HALF)]
        else:
            halves = self._halves(word * 32, count, rows)
        low, high = halves if len(halves) > 1 else (*halves, self._number(0))
        turned = spread(body.load(self.records, self.outputs * self.record + word), self.lanes)
        turned = body.bind(turned, "turned")
        pixels = (
            tirx.bitwise_or(tirx.bitwise_and(low, self._number(0xFFFF)), tirx.shift_left(high, half)),
            tirx.bitwise_or(tirx.shift_right(low, half), tirx.bitwise_and(high, self._number(0xFFFF0000))),
        )
        for side, made in enumerate(pixels):
            made, column = tirx.bitwise_xor(made, turned), x + side * (self.breadth - self.half)
            if self.lanes == 1:
                self.builder.store_word(pack, (n, y, column, word), tirx.Cast(pack.dtype, made))
                continue
            store_vector(body, self.found, side * self.lanes, made)
            with body.loop(self.lanes, "lane") as lane:
                self.builder.store_word(pack, (n, y, column + lane, word), tirx.Cast(pack.dtype, body.load(self.found, side * self.lanes + lane)))

    def _halves(self, first: int, count: int, rows: list) -> list:
        """Return, of each 16 channels, the word whose halves are their bits of both pixels.

        Bits are taken in where the signs are, and turned by what lies between channels: Thumb-2 does that on the way to the next bit, vectors are shifted.
        """
        halves: list = [None] * -(-count // HALF)
        places = [HALF - 1] * len(halves)
        for o, acc in self._channels(first, count, rows):
            half, place = divmod(o - first, HALF)
            bit, before = tirx.bitwise_and(acc, self._number(_TOP_BITS)), halves[half]
            if self.lanes > 1:
                bit = tirx.shift_right(bit, self._number(HALF - 1 - place))
            elif before is not None:
                before = self._turn(before, place - places[half])
            halves[half] = self.body.bind(bit if before is None else tirx.bitwise_or(bit, before), "bits")
            places[half] = HALF - 1 if self.lanes > 1 else place
        return [self._turn(bits, HALF - 1 - place) for bits, place in zip(halves, places)]

    def _turn(self, bits, by: int):
        """Return bits brought to places that are lower by so many; channels in order never need those that would leave the word."""
        if by == 0:
            return bits
        right = tirx.shift_right(bits, const(by % 32, WORD))
        return tirx.bitwise_or(right, tirx.shift_left(bits, const(-by % 32, WORD))) if self.shares else right

    def _sixteen(self, first, count: int, rows: list):
        """Return the word whose halves are the bits of up to 16 channels of both pixels, channel by channel."""
        body = self.body
        kept = body.local(WORD if self.lanes == 1 else f"{WORD}x{self.lanes}", 1, "bits")
        body.store(kept, 0, self._number(0))
        with body.loop(count, "o") as o:
            found = tirx.bitwise_and(self._channel(first + o, rows), self._number(_TOP_BITS))
            body.store(kept, 0, tirx.bitwise_or(found, tirx.shift_right(body.load(kept, 0), self._number(1))))
        bits = body.bind(body.load(kept, 0), "bits")
        return tirx.shift_right(bits, self._number(HALF - count)) if count < HALF else bits

    def _values(self, n, y, x, rows: list) -> None:
        """Store the sums of all channels of all pixels, and give them to the epilogue."""
        body, evaluator, lanes = self.body, self.builder.evaluator, self.lanes

        def keep(o, acc) -> None:
            store_vector(body, self.found, o * lanes, acc) if lanes > 1 else body.store(self.found, o, acc)

        if self.in_data:
            with body.loop(self.outputs, "o") as o:
                keep(o, self._channel(o, rows))
        else:
            for o, acc in self._channels(0, self.outputs, rows):
                keep(o, acc)
        for side in range(2):
            with evaluator.loop(lanes, "lane") as lane:

                def value(index, _, side=side, lane=lane):
                    word = body.load(self.found, index[-1] * lanes + lane)
                    word = tirx.shift_right(word, tirx.const(HALF, WORD)) if side else tirx.bitwise_and(word, const(0xFFFF, WORD))
                    return tirx.Cast("int32", word) - tirx.const(self.offset, "int32")

                with evaluator.scope():
                    evaluator.define(self.anchor, value)
                    self.builder.outputs.write(evaluator, (n, y, x + lane + side * (self.breadth - self.half)))


def signed_sum_conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.signed_sum_conv2d`` and its epilogue."""
    return SignedSums(builder, anchor).write()
