"""Codes of a few channels by signs: first layers on the bytes of an image, without a multiplication.

Two pixels of an output row stand in the halves of a word, far enough apart that the loop over one half of the row makes both. Sums of a few taps, for all
their signs, are made once (`tap_sums`), row by row into a ring of as many rows as the kernel has; an output channel adds or subtracts a word for each slot of
its taps, and which word that is stands in the code::

    for every row of outputs:
        new rows of the input -> sums[row % KH][column][slot, signs]
        for every pair of pixels:
            acc = start[o] + rows[0][17] - rows[0][40] + rows[1][3] ...        for each output channel o, in a straight line

Ranges. A word is ``low + 65536 * high`` for signed sums low and high, modulo 2^32; sums of words are words of the sums, whatever was borrowed between the
halves on the way. It is read off the halves at the end if both are in 0 .. 65535 then, and that is what starts are for. With a threshold t a channel starts
from ``2^15 - t`` in both halves: bit 15 of a half says whether the sum reaches t, as long as K codes of a range R have ``K * R < 2^15``; thresholds beyond
what sums can be are brought to the nearest that they cannot pass. The bits of 16 channels are shifted into one word, which holds those of both pixels then.
Before any other epilogue starts are the least sum, negated, and ``K * R < 2^16``.

Instructions of Thumb-2 for each of two pixels' channels: 2 a slot (load, add), 3 for start and bit. 3 x 3 taps of 3 channels take 9 slots, or 6 of larger
tables, 13 or 10 instructions for 32 multiply-accumulates; products of bytes take 96.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.ops.signed_sum_conv2d import signs_of
from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.evaluate import layout_of
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.scalar.tap_sums import TapSums, find_tap_sums
from bnncc.schedules.statements import const, simplify

__all__ = ["fits_halves", "signed_sum_conv2d"]

_WORD = "uint32"
_HALF = 16
_TOP_BITS = 0x80008000
_BOTH = 0x10001
"""Times this: a number in both halves."""


def fits_halves(inputs: int, lo: int, hi: int) -> bool:
    """Tell whether the sums of so many codes, from `lo` to `hi`, added or subtracted, can be told apart in 16 bits."""
    return inputs * (hi - lo) < 1 << _HALF


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
        self.builder, self.body, self.anchor = builder, builder.body, anchor
        self.x, self.w = anchor.args
        self.outputs, self.kh, self.kw, self.channels = self.w.shape
        attrs = anchor.attrs
        self.sy, self.sx = (int(s) for s in attrs.strides)
        self.top, self.left, *_ = (int(p) for p in attrs.padding)
        self.signs = signs_of(attrs, self.w.shape)
        self.height, self.breadth = anchor.shape[1:3]
        self.half = -(-self.breadth // 2)
        self.apart = (self.breadth - self.half) * self.sx
        """Columns of the input between the two pixels of a word."""
        self.columns = (self.half - 1) * self.sx + self.kw
        codes = sorted((int(attrs.lo), int(attrs.hi), *([int(attrs.pad_code)] if any(map(int, attrs.padding)) else [])))
        flat = self.signs.reshape(self.outputs, -1).astype(np.int64)
        ends = np.stack([flat * codes[0], flat * codes[-1]])
        self.least, self.largest = ends.min(0).sum(1), ends.max(0).sum(1)
        variant = builder.variant
        found = find_tap_sums(
            (self.kh, self.kw), self.channels, self.outputs, self.columns, self.sx, variant.optimize_for, "two-operands" in variant.instructions
        )
        self.sums: TapSums = found[builder.choices.choose("taps of sums", next(iter(found)), tuple(found))]
        self.threshold = self._threshold()

    def _threshold(self) -> _Threshold | None:
        """Return the epilogue where it is one threshold a channel, packed."""
        group = self.builder.group
        nodes = [node for node in group.nodes if node is not self.x]
        if len(nodes) != 3 or len(group.outputs) != 1 or (self.largest - self.least).max() >= 1 << (_HALF - 1):
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

    def _starts(self) -> None:
        """Give the weights' buffer what channels start from, and behind that which bits of the words are to be turned over."""
        if self.threshold is None:
            self.offset = int(max(0, -self.least.min()))
            self.builder.replace(self.w, 1, self.w.dtype, lambda array: array.reshape(-1)[:1])
            return
        threshold = self.threshold
        hosts = [tensor for tensor in (threshold.limits, threshold.flip) if tensor.constant is None]

        def arrange(_, *arrays: np.ndarray) -> np.ndarray:
            known = dict(zip(hosts, arrays, strict=True))
            limits, flip = (np.broadcast_to(known.get(t, t.constant), t.shape).reshape(-1) for t in (threshold.limits, threshold.flip))
            limits, rises = np.broadcast_to(limits, self.outputs).astype(np.int64), np.broadcast_to(flip > 0, self.outputs)
            # the bit says -1: the sum is below its limit, or, where codes fall with it, above
            limits = np.clip(np.where(rises, limits, limits + 1), self.least, self.largest + 1)
            words = threshold.layout.words
            turned = np.packbits(np.pad(rises, (0, 32 * words - self.outputs)), bitorder="little").view("<u4")
            return np.concatenate([((1 << _HALF - 1) - limits) * _BOTH % (1 << 32), turned]).astype(np.uint32)

        self.starts = self.builder.replace(self.w, self.outputs + threshold.layout.words, _WORD, arrange, tuple(hosts))
        for tensor in hosts:  # read at compile time only
            self.builder.replace(tensor, 1, tensor.dtype, lambda array: array.reshape(-1)[:1])

    # run time

    def write(self) -> Kernel:
        """Write everything."""
        body = self.body
        self._starts()
        self.table = body.local(_WORD, self.kh * self.columns * self.sums.words, "sums")
        self.taps = body.local(_WORD, self.columns * self.channels, "taps")
        if self.threshold is None:
            self.found = body.local(_WORD, self.outputs, "found")
        evaluator = self.builder.evaluator
        with evaluator.loop(self.anchor.shape[0], "n") as n, evaluator.loop(self.height, "y") as y:
            self._new_rows(n, y)
            with evaluator.loop(self.half, "x") as x:
                rows = [self._row_of(y, i, x) for i in range(self.kh)]
                if self.threshold is None:
                    self._values(n, y, x, rows)
                else:
                    self._bits(n, y, x, rows)
        how = "thresholds in the starts" if self.threshold else "sums in memory"
        return self.builder.kernel(f"sums of {self.sums.name} taps a row of the kernel, lanes are 2 pixels, signs in the code, {how}")

    def _row_of(self, y, i: int, x):
        """Return the sums of row `i` of the taps, from the column of the first tap on."""
        words = self.columns * self.sums.words
        slot = simplify((y * self.sy + i) % self.kh)
        return self.body.part(self.table, slot * words + x * (self.sx * self.sums.words), self.kw * self.sums.words, "row")

    def _new_rows(self, n, y) -> None:
        """Make the sums of the rows that this row of outputs is the first to read."""
        body, end = self.body, y * self.sy + self.kh
        begin = y * self.sy if self.sy >= self.kh else tirx.Select(y > 0, end - self.sy, 0) if self.height > 1 else 0
        with self.builder.evaluator.loop(simplify(end - begin), "row", start=simplify(begin)) as row:
            self._read_taps(n, row)
            base = body.bind(simplify(row % self.kh) * (self.columns * self.sums.words), "base")
            for slot in self.sums.slots:
                with body.loop(self.columns - slot.columns + 1, "column") as column:
                    self._sum_up(slot, column, base + column * self.sums.words + slot.at)

    def _sum_up(self, slot, column, to) -> None:
        """Store the sums of a slot: each differs from the one before in one sign."""
        body = self.body
        places = [(column + j) * self.channels + slot.first + c for j in range(slot.columns) for c in range(slot.channels)]
        values = [body.bind(body.load(self.taps, place), "tap") for place in places]
        total = values[0]
        for value in values[1:]:
            total = total + value
        total, case = body.bind(total, "sum"), 0
        body.store(self.table, to, total)
        for number in range(1, slot.sums):
            changed = (number & -number).bit_length() - 1
            case ^= 1 << changed
            twice = tirx.shift_left(values[1 + changed], tirx.const(1, _WORD))
            total = body.bind(total - twice if case >> changed & 1 else total + twice, "sum")
            body.store(self.table, to + case, total)

    def _read_taps(self, n, row) -> None:
        """Bring a row of the input into words of two pixels."""
        body, height = self.body, self.x.shape[1]
        pads = self.top or (self.height - 1) * self.sy + self.kh - self.top > height
        if not pads:
            return self._read_inside(n, row)
        inside = tirx.And(row >= self.top, row < self.top + height)
        with body.when(inside), self.builder.evaluator.scope():
            self._read_inside(n, row - self.top)
        with body.when(tirx.Not(inside)), body.loop(self.columns * self.channels, "i") as i:
            body.store(self.taps, i, self._padding())

    def _padding(self):
        return const(int(self.anchor.attrs.pad_code) * _BOTH % (1 << 32), _WORD)

    def _read_inside(self, n, row) -> None:
        width, body = self.x.shape[2], self.body
        starts = [self.left, self.left - self.apart]  # the columns of taps from which on each half is inside of the image
        cuts = sorted({min(max(cut, 0), self.columns) for cut in (0, self.columns, *starts, *(start + width for start in starts))})
        for first, end in zip(cuts, cuts[1:]):
            with self.builder.evaluator.loop(end - first, "column") as column:
                column = first + column
                for c in range(self.channels):
                    halves = [
                        self._code(n, row, column - start, c) if start <= first < start + width else const(int(self.anchor.attrs.pad_code) % (1 << 32), _WORD)
                        for start in starts
                    ]
                    word = halves[0] + tirx.shift_left(halves[1], tirx.const(_HALF, _WORD))
                    body.store(self.taps, column * self.channels + c, word)

    def _code(self, n, row, column, c: int):
        place, x = (n, row, simplify(column), c), self.x
        if x.op:  # an order of axes that this kernel reads through
            axes = [int(axis) for axis in x.attrs.axes]
            place, x = [place[axes.index(axis)] for axis in range(4)], x.args[0]
        code = self.builder.evaluator.value(x, tuple(place), 1)
        return tirx.Cast(_WORD, tirx.Cast("int32", code))

    def _accumulate(self, o: int, start, rows: list):
        """Return the word of an output channel."""
        acc = start
        for i, row in enumerate(rows):
            for number, column in self.sums.lookups:
                slot = self.sums.slots[number]
                signs = self.signs[o, i, column : column + slot.columns, slot.first : slot.first + slot.channels]
                case, minus = slot.find(signs)
                word = self.body.load(row, column * self.sums.words + case)
                acc = acc - word if minus else acc + word
        return self.body.bind(acc, "acc")

    def _bits(self, n, y, x, rows: list) -> None:
        """Find the bits of all output channels, and store the words of both pixels."""
        body, layout, pack = self.body, self.threshold.layout, self.threshold.pack
        for word in range(layout.words):
            first, last = word * 32, min(self.outputs, word * 32 + 32)
            parts = [self._sixteen(range(at, min(at + _HALF, last)), rows) for at in range(first, last, _HALF)]
            low, high = (parts[0], const(0, _WORD)) if len(parts) == 1 else parts
            turned = body.bind(body.load(self.starts, self.outputs + word), "turned")
            pixels = (
                tirx.bitwise_or(tirx.bitwise_and(low, const(0xFFFF, _WORD)), tirx.shift_left(high, tirx.const(_HALF, _WORD))),
                tirx.bitwise_or(tirx.shift_right(low, tirx.const(_HALF, _WORD)), tirx.bitwise_and(high, const(0xFFFF0000, _WORD))),
            )
            for made, column in zip(pixels, (x, x + self.breadth - self.half)):
                self.builder.store_word(pack, (n, y, column, word), tirx.Cast(pack.dtype, tirx.bitwise_xor(made, turned)))

    def _sixteen(self, channels: range, rows: list):
        """Return the word whose halves are the bits of up to 16 channels of both pixels."""
        body, bits = self.body, None
        for o in channels:
            found = tirx.bitwise_and(self._accumulate(o, body.load(self.starts, o), rows), const(_TOP_BITS, _WORD))
            bits = body.bind(found if bits is None else tirx.bitwise_or(found, tirx.shift_right(bits, tirx.const(1, _WORD))), "bits")
        if len(channels) < _HALF:
            kept = const(((1 << len(channels)) - 1) * _BOTH, _WORD)
            bits = body.bind(tirx.bitwise_and(tirx.shift_right(bits, tirx.const(_HALF - len(channels), _WORD)), kept), "bits")
        return bits

    def _values(self, n, y, x, rows: list) -> None:
        """Store the sums of all channels of two pixels, and give them to the epilogue."""
        body, evaluator = self.body, self.builder.evaluator
        for o in range(self.outputs):
            body.store(self.found, o, self._accumulate(o, const(self.offset * _BOTH % (1 << 32), _WORD), rows))
        for lane, column in enumerate((x, x + self.breadth - self.half)):

            def value(index, lanes, lane=lane):
                word = body.load(self.found, index[-1])
                word = tirx.shift_right(word, tirx.const(_HALF, _WORD)) if lane else tirx.bitwise_and(word, const(0xFFFF, _WORD))
                return tirx.Cast("int32", word) - tirx.const(self.offset, "int32")

            with evaluator.scope():
                evaluator.define(self.anchor, value)
                self.builder.outputs.write(evaluator, (n, y, column))


def signed_sum_conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.signed_sum_conv2d`` and its epilogue."""
    return SignedSums(builder, anchor).write()
