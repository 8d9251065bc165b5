"""Sliced formulation with lanes = pixels, for groups that end with limits and their bits: early layers, of many pixels and few channels.

As in `sliced`, popcount(x ^ w) of three inputs is looked up and counted in vertical counters, but here the table comes from the activations, at run time, and
the cases from the weights, at compile time. A block of 256 outputs (AVX2: some rows of the image, `LaneBlocks`) shares the table, which is made once for all
output channels, a few rows at a time::

    words of the input that the block reads -> bit planes [channel][pixel]              transposition of 64 x 64 bits
    for 16 channels at a time:
        taps are shifted planes; the triples of them -> 64 rows of 8 cases              16 KB, in the L1 cache
        for every output channel:   counters += row[case]                               64 loads, 63 full adders
    the same for the triples of what the channels' triples left
    carries out of the counters, [output channel][pixel] -> words of the outputs        transposition of 64 x 64 bits

Where a channel has one limit, the counters start from it (`limit_planes`), at a border from that of each lane's class of rows and columns. Where it has several
(codes of 0, repeated channels) or the input two planes, counts start from 0 and are compared plane by plane (`plane_limits`).

Measured on AVX2 (Zen 3, shared machine, the least of many runs in turns, threshold and packing included), GMAC/s; `lookup` or `lookup_pixels`, whichever is
chosen else:

======  =====  =====  ======  =====  =====  =====  =====  ============  ============  ===========
3x3     64@56  64@28  128@28  64@16  32@56  32@16  96@28  256@14, 2 gr  256@14, 8 gr  1x1 64@28
======  =====  =====  ======  =====  =====  =====  =====  ============  ============  ===========
pixels  854    738    780     850    671    522    779    769           611           469
others  479    472    543     452    403    378    509    534           332           308
======  =====  =====  ======  =====  =====  =====  =====  ============  ============  ===========

The loop has 410 to 420 instructions for 64 lookups and takes 1.4 cycles a lookup, 366 MAC a cycle; what is made once for all channels takes 15 cycles a row of
the table. Tables made as a whole, with blocks of output channels inside, were 8 % slower at 64@56: they come from the L2 cache. LLVM hoists masks out of loops;
where the transposition stood in a deeper loop than the lookups, five registers held them and the loop spilled 70 vectors, for 17 % of the time at 128@28.
The table is never read through `Statements.part`: LLVM takes its stores for those of another buffer then.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import PARALLEL_ELEMENTS, Builder
from bnncc.schedules.choices import Choices
from bnncc.schedules.count_limits import CountLimits, complemented, limits_of
from bnncc.schedules.formulations.formulation import BinaryShape, WholeKernel
from bnncc.schedules.formulations.majority import CASES, TripleRows, cases_of, row_count
from bnncc.schedules.formulations.vertical_pairs import PairCounter
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.staging import StagedRows
from bnncc.schedules.statements import const, reinterpret, spread
from bnncc.schedules.x86.lane_blocks import LaneBlocks
from bnncc.schedules.x86.lane_classes import LaneClasses
from bnncc.schedules.x86.permuted_pixels import PERMUTED_LANES, PermutedPixels
from bnncc.schedules.x86.pixel_bits import PixelBits
from bnncc.schedules.x86.plane_limits import LimitComparison, class_bytes
from bnncc.targets import Variant

__all__ = ["sliced_pixel_kernel", "sliced_pixels"]

_STRAIGHT = 64
"""Lookups of straight-line code."""


# What takes as long as one lookup: so many multiply-accumulates of `lookup`, and of `lookup_pixels`, for each lane.
_LOOKUP_MACS, _PIXEL_MACS = 224 / 256, 175 / 256
_FEW_OUTPUTS = 48

# In lookups: a row of the table, and 64 x 64 bits transposed in every word of a vector.
_ROW, _TRANSPOSITION = 10, 350

_PERMUTED, _MOST_PERMUTED = 0.28, 64
"""Of the time of a block, 32 pixels of `PermutedPixels`; pixels of these at most."""


def sliced_pixels(shape: BinaryShape, variant: Variant) -> WholeKernel | None:
    """Return the formulation where it pays, or None.

    It pays where pixels fill the lanes and several output channels share the table, by estimates of its time and that of `lookup` or `lookup_pixels`.
    """
    if "vpopcnt" in variant.instructions or (found := sliced_pixel_kernel(shape, variant)) is None:
        return None
    lanes, taps = min(variant.vector_bits, 256), shape.taps[0] * shape.taps[1]
    rate = lanes * (_PIXEL_MACS if shape.outputs <= _FEW_OUTPUTS else _LOOKUP_MACS)
    other = shape.pixels * taps * (-(-shape.inputs // 4) * 4) * (-(-shape.outputs // 8) * 8) / rate
    return found if _lookups(shape, lanes, _blocks(shape, lanes, shape.rows)) < other else None


def _blocks(shape: BinaryShape, lanes: int, most_rows: int) -> LaneBlocks:
    """Return the blocks that take the least time."""
    found = LaneBlocks.of(shape, lanes, most_rows, _MOST_PERMUTED if shape.answers and lanes == 8 * PERMUTED_LANES else 0)
    return min(found, key=lambda blocks: _lookups(shape, lanes, blocks))


def _lookups(shape: BinaryShape, lanes: int, blocks: LaneBlocks) -> float:
    """Return how many lookups take as long as the whole layer."""
    rows = shape.inputs * row_count(shape.taps[0] * shape.taps[1]) + row_count(shape.inputs)
    transposed = _TRANSPOSITION * (-(-shape.inputs // 64) * len(blocks.maps) * -(-blocks.map_pixels // lanes) + shape.outputs / 64)
    found = blocks.down * blocks.across * ((shape.outputs + _ROW) * rows + transposed)
    if blocks.rest:
        found += -(-blocks.rest.lanes // PERMUTED_LANES) * (_PERMUTED * shape.outputs + _ROW) * rows + transposed
    return found


def sliced_pixel_kernel(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> WholeKernel | None:
    """Return the formulation of groups that end with limits and their bits, whether it pays or not, where the machine has ``pshufb``."""
    if "pshufb" not in variant.instructions or not (shape.answers or shape.bits):
        return None
    if row_count(shape.taps[0] * shape.taps[1]) > _STRAIGHT:
        return None
    lanes = min(variant.vector_bits, 256)
    return WholeKernel(f"sliced by pixels, {shape.word} words, vectors of {lanes} pixels", lambda *given: _SlicedPixels(shape, lanes, *given).write())


@dataclass(frozen=True)
class _Part:
    """Rows of the table that are made, and looked up, together: `rows` of them from row `first` on, `repeats` times; of so many input channels each time."""

    first: int
    rows: int
    repeats: int
    channels: int = 0


def _parts(inputs: int, taps: int) -> tuple[list[_Part], list[_Part]]:
    """Return the parts of the rows of channels, and those of what these leave, of which the last is not repeated."""
    each = row_count(taps)
    channels = []
    if each:
        most = max(1, _STRAIGHT // each)
        whole, rest = divmod(inputs, most)
        channels += [_Part(0, most * each, whole, most)] * (whole > 0) + [_Part(whole * most * each, rest * each, 1, rest)] * (rest > 0)
    left, first = row_count(inputs), inputs * each
    whole = max(0, left - _STRAIGHT // 2 - 1) // _STRAIGHT  # the last takes up to half as many more
    joined = [_Part(first, _STRAIGHT, whole)] * (whole > 0) + [_Part(first + whole * _STRAIGHT, left - whole * _STRAIGHT, 1)]
    return channels, joined


class _SlicedPixels:
    """Writes the kernel."""

    def __init__(self, shape: BinaryShape, lanes: int, builder: Builder, anchor: Tensor, limits: CountLimits, word_at: Callable, stage: StagedRows | None):
        self.shape, self.lanes, self.builder, self.body, self.anchor = shape, lanes, builder, builder.body, anchor
        self.limits, self.stage = limits, stage
        self.width = lanes // 64
        self.vector = f"uint64x{self.width}"
        self.class_counts = limits.border[0].shape[:2] if limits.border else (1, 1)
        taps = shape.taps[0] * shape.taps[1]
        self.length = taps * shape.inputs
        self.compares = not shape.answers  # else the counters start from the limit
        self.input_planes = int(anchor.attrs.planes)
        self.planes = (self.length * self.input_planes).bit_length() if self.compares else self.length.bit_length() + 1
        self.per_channel = row_count(taps)
        self.rows = shape.inputs * self.per_channel + row_count(shape.inputs)
        self.parts = _parts(shape.inputs, taps)
        self.blocks = _blocks(shape, lanes, shape.rows if stage is None else stage.most_rows)
        self.bits = PixelBits(builder, anchor, shape, self.blocks, lanes, word_at)
        rest = self.blocks.rest
        self.rest = PermutedPixels(builder, anchor, shape, rest, lanes, self.planes, word_at) if rest else None

    def write(self) -> Kernel:
        """Write everything."""
        builder, body, shape, blocks = self.builder, self.body, self.shape, self.blocks
        pack = builder.group.outputs[0]
        outputs = shape.groups * shape.outputs
        self.cases = self._replace_weights()
        self.starts = None if self.compares else self._replace_limits()
        self.comparison = self._comparison() if self.compares else None
        self.classes = LaneClasses(builder, self.limits, blocks, self.lanes)
        images = self.anchor.shape[0]
        extents = images, blocks.down, blocks.across
        axis = next((i for i, extent in enumerate(extents) if extent > 1), None)
        shares = self.anchor.size * self.rows // self.lanes >= PARALLEL_ELEMENTS // 4
        if not shares:
            axis = None
        # of a single block words of the outputs are shared out: each thread makes the table of its own
        whole_words = shape.groups == 1 and shape.outputs % 64 == 0 and not self.compares and self.rest is None
        parts = shape.outputs // 64 if shares and axis is None and whole_words else 1
        with builder.lead_loops((images,), axis == 0) as (n,):
            with builder.evaluator.loop(blocks.down, "by", parallel=axis == 1) as by:
                y0 = blocks.first_row(by)
                if self.stage is not None:
                    self.stage.fill(n, y0, blocks.rows)
                with builder.evaluator.loop(blocks.across, "bx", parallel=axis == 2) as bx, ExitStack() as stack:
                    x0 = blocks.first_column(bx)
                    inner = stack.enter_context(builder.evaluator.loop(parts, "part", parallel=parts > 1))
                    self.own_outputs, self.first_output = shape.outputs // parts, inner * (shape.outputs // parts)
                    self._allocate(int(pack.attrs.channels), int(pack.attrs.planes))
                    present = self.classes.present(by, bx)
                    with body.loop(shape.groups, "g") as g:
                        self._start(g, present)
                        with builder.evaluator.loop(shape.planes, "plane") as plane:
                            self.bits.read(n, y0, x0, g, plane)
                            self._count(g)
                        if self.compares:
                            self._compare(g, present)
                    of_part = (inner, 1) if parts > 1 else None
                    for plane in range(int(pack.attrs.planes)):
                        self.bits.write_words(pack, plane, self.answers, (n, y0, x0), (by * blocks.rows - y0, bx * blocks.width - x0), of_part)
            if self.rest is not None:
                with builder.evaluator.loop(1, "last", parallel=axis == 1):
                    self._write_rest(n, pack)
        return builder.kernel(
            f"sliced by pixels, {shape.word} words, {blocks.rows} x {blocks.width} pixels in {self.lanes} lanes, {outputs} channels"
        )

    # compile time

    def _replace_weights(self):
        shape = self.shape
        complement = (lambda words: words) if self.compares else complemented(self.limits, shape.inputs)
        # of each group: the cases of a part of all its outputs, part by part, then whether the weights of an output are odd
        self.group_cases = shape.outputs * (self.rows + 1)

        def arrange(*arrays: np.ndarray) -> np.ndarray:
            words = complement(*arrays)
            octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), shape.taps[0] * shape.taps[1], -1)
            bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., : shape.inputs].swapaxes(1, 2)
            cases, parity = cases_of(bits)
            of_rest = [self.rest.weights(cases, parity)] if self.rest else []
            cases = (cases * self.width).reshape(shape.groups, shape.outputs, -1)
            parity = parity.reshape(shape.groups, shape.outputs) * 255
            found = []
            for part in (*self.parts[0], *self.parts[1]):
                for i in range(part.repeats):
                    first = part.first + i * part.rows
                    found.append(cases[..., first : first + part.rows].reshape(shape.groups, -1))
            table = np.concatenate([*found, parity], axis=1).astype(np.uint8).reshape(-1)
            return np.concatenate([table, *of_rest])

        size = shape.groups * self.group_cases + (self.rest.weight_bytes if self.rest else 0)
        return self.builder.replace(self.anchor.args[1], size, "uint8", arrange, () if self.compares else self.limits.direction)

    def _replace_limits(self):
        """Give the limits a buffer of [class][channel][plane] bytes, all ones where a plane starts from one."""
        limits, channels = self.limits, self.anchor.shape[-1]
        table = limits.border[:1]

        def arrange(thresholds: np.ndarray, *others: np.ndarray) -> np.ndarray:
            border, flip = (others[0], others[1:]) if table else (np.zeros((1, 1, channels), np.int32), others)
            found = limits_of(np.broadcast_to(thresholds.reshape(1, -1), (1, channels)), border, limits.falls(channels, *flip), self.length)
            start = (1 << self.planes - 1) - found[0].astype(np.int64)
            bits = start[..., None] >> np.arange(self.planes) & 1
            of_rest = [self.rest.starts(bits.astype(np.uint8))] if self.rest else []
            return np.concatenate([(bits * 255).astype(np.uint8).reshape(-1), *of_rest])

        classes = math.prod(self.class_counts)
        self.rest_starts = classes * channels * self.planes
        size = self.rest_starts + (self.rest.start_bytes(classes) if self.rest else 0)
        buffer = self.builder.replace(limits.thresholds, size, "uint8", arrange, (*table, *limits.direction))
        self.builder.read_at_compile_time(*table, *limits.direction)
        return buffer

    def _comparison(self) -> LimitComparison:
        return LimitComparison(self.builder, self.anchor, self.limits, self.length, self.planes, self.lanes)

    def _write_rest(self, n, pack: Tensor) -> None:
        """Write the rows that are not those of whole blocks."""
        body, blocks, place = self.body, self.blocks, (n, self.blocks.rest.top, 0)
        if self.stage is not None:
            self.stage.fill(n, blocks.rest.top, blocks.rest.rows)
        room = -(-int(pack.attrs.channels) // 64) * 64 * self.lanes // PERMUTED_LANES
        answers = body.local("uint32", room, "answers")
        with body.loop(room // 8, "i") as i:
            body.store(answers, i * 8, const(0, "uint32", 8), 8)
        present = self.classes.present(blocks.down, blocks.across)
        weights, starts = (self.cases, self.shape.groups * self.group_cases), (self.starts, self.rest_starts)
        with body.loop(self.shape.groups, "g") as g:
            self.rest.write(place, g, weights, starts, present, answers)
        self.rest.bits.write_words(pack, 0, answers, place, (0, 0))

    # a block

    def _allocate(self, channels: int, planes: int) -> None:
        body, shape, width = self.body, self.shape, self.width
        self.bits.allocate()
        most = max(part.rows for part in (*self.parts[0], _Part(0, row_count(shape.inputs), 1)))
        self.table = body.local("uint64", max(1, most) * CASES * width, "table")
        self.left = body.local("uint64", shape.inputs * width, "left")
        self.triples = TripleRows(body, self.table, self.left, width, shape.inputs)
        self.counters = body.local("uint64", shape.outputs * self.planes * width, "counters")
        room = -(-channels // 64) * 64
        self.answers = body.local("uint64", planes * room * width, "answers")
        with body.loop(planes, "plane") as plane, body.loop(room - channels, "i") as i:
            body.store(self.answers, (plane * room + channels + i) * width, const(0, "uint64", width), width)

    def _load(self, buffer, vector):
        return self.body.load(buffer, vector * self.width, self.width)

    def _store(self, buffer, vector, value) -> None:
        self.body.store(buffer, vector * self.width, value, self.width)

    def _byte(self, buffer, index):
        """Return a byte in all bytes of a vector."""
        return reinterpret(self.vector, spread(self.body.load(buffer, index), self.lanes // 8))

    def _start(self, g, present) -> None:
        """Let the counters of all outputs start from their limits."""
        body, planes = self.body, self.planes
        with body.loop(self.own_outputs, "o", start=self.first_output) as o:
            channel = g * self.shape.outputs + o
            if self.compares:
                start = [const(0, "uint64", self.width)] * planes
            else:
                start = class_bytes(body, self.starts, planes, channel, self.anchor.shape[-1], present, self.lanes)
            for i, plane in enumerate(start):
                self._store(self.counters, o * planes + i, plane)

    # counting

    def _count(self, g) -> None:
        """Count for all outputs of a group."""
        body, shape = self.body, self.shape
        base = g * self.group_cases
        taps = [(i, j) for i in range(shape.taps[0]) for j in range(shape.taps[1])]
        if not self.per_channel:
            with body.loop(shape.inputs, "c") as c:
                self._store(self.left, c, self.bits.tap(c, *taps[0]))
        for part in self.parts[0]:
            with body.loop(part.repeats, "part") as number:
                with body.loop(part.channels, "c") as c:
                    channel = part.first // self.per_channel + number * part.channels + c
                    self.triples.of_channel(c, channel, [functools.partial(self.bits.tap, channel, i, j) for i, j in taps])
                self._add_part(part, base + (part.first + number * part.rows) * shape.outputs, 0)
        self.triples.of_left()
        *whole, last = self.parts[1]
        for part in whole:
            with body.loop(part.repeats, "part") as number:
                self._add_part(part, base + (part.first + number * part.rows) * shape.outputs, number * part.rows)
        self._add_part(last, base + last.first * shape.outputs, sum(part.rows * part.repeats for part in whole), g, base + self.rows * shape.outputs)

    def _add_part(self, part: _Part, cases, row, g=None, parity=None) -> None:
        """Add rows of the table, from `row` on, to the counters of all outputs; where `g` is given they are the last ones, and the answers are stored."""
        body, width, planes = self.body, self.width, self.planes
        with body.loop(self.own_outputs, "o", start=self.first_output) as o:
            own = body.part(self.cases, cases + o * part.rows, max(1, part.rows), "own")
            counter = PairCounter(body, lambda i, o=o: self._load(self.counters, o * planes + 1 + i), planes - 1)
            if g is not None:
                odd = tirx.bitwise_xor(self._load(self.left, 0), self._byte(self.cases, parity + o))
                # of the bits of weight 1, what they carry is all that matters where the answer is a carry
                ones = body.bind(self._load(self.counters, o * planes), "ones")
                counter.add(body.bind(tirx.bitwise_and(odd, ones), "m"), 0)
                if self.compares:
                    self._store(self.counters, o * planes, tirx.bitwise_xor(odd, ones))
            for i in range(part.rows):
                case = tirx.Cast("int32", body.load(own, i))
                counter.add(body.bind(body.load(self.table, (row + i) * CASES * width + case, width), "w"), 0)
            counter.finish()
            if g is not None and not self.compares:
                self._store(self.answers, g * self.shape.outputs + o, counter.planes[-1])
            else:
                for i, plane in enumerate(counter.planes):
                    if plane is not None:  # else it is as it was
                        self._store(self.counters, o * planes + 1 + i, plane)

    def _compare(self, g, present) -> None:
        """Compare the counts of all outputs of a group with their limits."""
        body, planes = self.body, self.planes
        with body.loop(self.shape.outputs, "o") as o:
            counts = [body.bind(self._load(self.counters, o * planes + i), "count") for i in range(planes)]
            self.comparison.write(counts, g * self.shape.outputs + o, self.shape.planes, present, self.answers)
