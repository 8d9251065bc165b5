"""Sliced formulation: lanes of single bits, one an output channel; majority tables and vertical counters instead of any popcount.

For three inputs x and weights w the number of differing bits is s + 2 m with s the exclusive or of all six bits and m the majority of the three
differences. With the weights known, m has 8 cases: a table row holds them for all channels of a vector, and the three bits of x pick one, for 3 x 256 MAC
of an AVX2 register. The bits s are inputs of the next level, so that K inputs take K / 2 lookups; full adders sum them (`sliced_table`, `vertical_pairs`).

The case bytes are the offsets in a row already. They are made once a pixel and serve all output channels::

    cases      for every pixel of the tile
    for every vector of channels:
        for every 64 rows of the table:             64 rows of 256 channels are 16 KB and stay in the L1 cache
            for every pixel:  planes += row[case]   straight-line: 64 loads, 63 full adders
        for every pixel:      planes -> tile        8 x 8 bit transposition

Few pixels read few cases of each row; `sliced_layout` says how a row lies then.

Measured on AVX2 (Zen 3, one thread, least of 60 runs in turns on a shared machine, with threshold and packing; `benchmarks/kernels.py`), GMAC/s:

=========  ================  ======  ===========  =========  =========  =========
shape      256@14, stride 2  512@7   1x1 256@14   1x1 512@7  1x1 256@4  1x1 512@2
=========  ================  ======  ===========  =========  =========  =========
sliced     985               883     990          1004       947        854
lookup     539               492     514          507        521        476
=========  ================  ======  ===========  =========  =========  =========

With 128-bit vectors (v2) 476 at 256@14 beside 233. The main loop has 436 instructions for 64 lookups; the cases take 3 % of the time, made for four pixels at
a time. Two or four pixels of 128 or 64 channels in a register were slower than lookup; lanes of pixels (`x86/sliced_pixels.py`) take such layers.

Cycles for 512 MAC of the inner loop by llvm-mca 19 (`benchmarks/simulated.py`), popcount and sliced: znver4 1.50 and 0.74, sapphirerapids 1.50 and 0.54
(AVX-512); skylake 6.49 and 1.68, alderlake 6.02 and 1.57, znver3 5.90 and 1.33 (AVX2). No AVX-512 machine was at hand to time it on.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.formulations.limit_planes import Answers
from bnncc.schedules.formulations.sliced_cases import CASE_ROWS, CASE_UNIT, Cases
from bnncc.schedules.formulations.sliced_layout import FEW_PIXELS, arrange_table, shape_words, sliced_contraction, table_bytes
from bnncc.schedules.formulations.sliced_ones import sliced_by_ones
from bnncc.schedules.formulations.sliced_table import last_places, last_thirds, triples, word_parts
from bnncc.schedules.formulations.vertical import VerticalCounter, transpose_planes
from bnncc.schedules.formulations.vertical_in_order import CounterInRuns
from bnncc.schedules.formulations.vertical_pairs import PairCounter
from bnncc.schedules.register_tile import LINE_BYTES, Contraction, TileShape, tile_stride
from bnncc.schedules.statements import Statements, const, reinterpret
from bnncc.targets import Variant

__all__ = ["sliced", "sliced_formulation"]

_CHUNK = {16: 128, 32: 64, 64: 64}
"""Lookups of straight-line code by the bytes of a row: rows of 16 KB, on AVX2 6 % faster than half as many, where the counters are loaded and stored more
often, and 13 % faster than twice as many, which leave the L1 cache; with AVX-512, where none was timed, as many as the prototype has."""

_FEW_ROWS = 32
"""Lookups of straight-line code at least, where a pixel alone has little else."""

_LOADED_EARLY = 4
"""Rows that LLVM may load before they are counted where the straight-line code is long: of more it spills some, and copies others before a select."""

_TILE_BYTES = 64 * 1024

_NEAR_BYTES = 384 * 1024
"""Of a table that comes from the L2 cache as fast as a few pixels read it; the lines of their cases are asked for where it is larger.

One pixel, GMAC/s with and without: 256 to 256 (32 KB) 551 and 777, 512 to 512 (128 KB) 598 and 656, 1024 to 1024 (512 KB) in turns with two others 485 and
423, 2048 to 2048 (2 MB) 463 and 397.
"""

_SHARED_BYTES = 192 * 1024
"""Of the table, for each of few pixels: `sliced_by_ones` is faster where it is larger.

GMAC/s of `sliced` and `sliced_by_ones` on AVX2, bytes of the table, pixels: 512 to 512 (128 KB, 1) 754 and 653; 1024 to 512 (256 KB) 1 pixel 623 and 622, 4
pixels 850 and 621; 784 to 1024 (392 KB, 1) 504 and 675; 1024 to 1024 (512 KB) 1 pixel 514 and 710, 2 pixels 598 and 701; 2048 to 1024 (1 MB, 4) 577 and 704;
9216 to 4096 (18 MB, 1) 166 and 463, carry-save popcount 355. On SSE, 1024 to 1024, 249 and 400.
"""

# Where sliced is faster than lookup on AVX2, with a margin, GMAC/s of both: 176 output channels of 256 584 and 469, 160 500 and 484; 9 pixels 454 and 332;
# 32 inputs of half a word 348 and 249; 40 of a word for 176 output channels 330 and 452.
_LEAST_FILLED = 0.68
_LEAST_INPUTS = 32
_LEAST_FILLED_WORDS = 0.5  # of those of the lanes that are filled

# beside a vector popcount, which no machine at hand has
_LEAST_FILLED_UNTIMED = 0.8
_LEAST_PIXELS_UNTIMED = 16
_LEAST_INPUTS_UNTIMED = 512


def sliced(shape: BinaryShape, variant: Variant) -> Formulation | None:
    """Return the sliced formulation where it pays, or None.

    It pays where output channels fill the registers and the words of the taps are full; beside a vector popcount too: a full adder is two instructions there.
    Few pixels of a large table take `sliced_by_ones`, whose table is a quarter of it.
    """
    inputs = shape.taps[0] * shape.taps[1] * shape.inputs
    filled = shape.outputs / (variant.vector_bits * -(-shape.outputs // variant.vector_bits))
    counts = "vpopcnt" in variant.instructions
    untimed = _LEAST_FILLED_UNTIMED, _LEAST_PIXELS_UNTIMED, _LEAST_INPUTS_UNTIMED
    least_filled, least_pixels, least_inputs = untimed if counts else (_LEAST_FILLED, 1, _LEAST_INPUTS)
    if counts and "vpternlog" not in variant.instructions or filled < least_filled or shape.pixels < least_pixels:
        return None
    if inputs < least_inputs or inputs * filled < _LEAST_FILLED_WORDS * 64 * shape_words(shape):
        return None
    found = sliced_formulation(shape, variant)
    if found is not None and shape.pixels < FEW_PIXELS and table_bytes(found.contraction) > _SHARED_BYTES * shape.pixels:
        return sliced_by_ones(shape, variant) or found
    return found


def sliced_formulation(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> Formulation | None:
    """Return the sliced formulation of any shape whose counts fit 16 planes, whether it pays or not."""
    if shape.taps[0] * shape.taps[1] * shape.inputs >= 1 << 16:
        return None
    c = sliced_contraction(shape, variant, choices)
    near = shape.pixels < FEW_PIXELS and variant.indexed_offsets and table_bytes(c) <= _NEAR_BYTES
    fetches = choose(choices, "sliced prefetch", not near, (True, False))

    def fill(body, c, tile_shape, weights, tile, load_x):
        _Sliced(body, c, shape, variant, tile_shape, weights, tile, load_x, fetches).write()

    def formulation(note: str, in_order: bool, answering: Formulation | None = None) -> Formulation:
        beside = f", {c.vectors} a case, cases of {shape.pixels} pixel{'s' * (shape.pixels > 1)}" if shape.pixels < FEW_PIXELS else ""
        name = f"sliced, {shape.word} words, vectors of {c.lanes} channels{beside}{note}"
        return Formulation(c, 1, lambda array: arrange_table(array, c, shape, in_order), fill, _TILE_BYTES, name, answering=answering)

    one = isinstance(shape.planes, int) and shape.planes == 1 and shape.outputs % c.lanes == 0
    return formulation("", False, formulation(", limits in the counters", True) if one else None)


class _Sliced:
    """Writes the code that computes all channels of a tile of pixels; arguments as of `register_tile.fill_tile`."""

    def __init__(
        self, body: Statements, c: Contraction, shape: BinaryShape, variant: Variant, tile_shape: TileShape, weights, tile, load_x: Callable, fetches: bool
    ):
        self.fetches = fetches
        self.body, self.c, self.shape, self.tile_shape = body, c, shape, tile_shape
        self.weights, self.load_x = weights, load_x
        self.answers, self.tile = (tile, None) if isinstance(tile, Answers) else (None, tile)
        self.row_bytes = c.lanes // 8
        self.row_step = c.lanes * c.vectors
        self.register_words = variant.vector_bits // 64
        self.pixels = tile_shape.rows * tile_shape.row_pixels
        self.words = shape_words(shape)
        self.counts = (shape.taps[0] * shape.taps[1] * shape.inputs).bit_length() if self.answers is None else self.answers.planes
        self.adder = next((name for name in ("vpternlog", "bsl") if name in variant.instructions), None)
        # where a load cannot add a register and a constant to its base, a case has the row in it
        self.with_rows = not variant.indexed_offsets
        self.scale = self.row_bytes * c.vectors // CASE_UNIT
        self.cases = Cases(body, self.pixels, triples(self.words) + 1, self.register_words, self.with_rows)
        self.in_runs = self.adder == "bsl" and variant.core.in_runs
        self.straight = _CHUNK[self.row_bytes]
        while self.straight > _FEW_ROWS and self.pixels == 1 and c.depth < 4 * self.straight:
            self.straight //= 2  # all of it in one straight line would spill: 256 to 256 channels 552 instead of 809 GMAC/s

    def write(self) -> None:
        """Write everything."""
        body, c = self.body, self.c
        planes = body.local("uint64", c.vectors * self.pixels * self.counts * self.register_words, "planes")
        once = isinstance(c.planes, int) and c.planes == 1
        with body.loop(c.groups, "g") as g:
            if not once:
                self._clear(g)
            with body.loop(c.planes, "plane") as plane:
                self._cases(plane, g)
                with body.loop(c.group_vectors // c.vectors, "v", parallel=self.tile_shape.channel_parts > 1) as v:
                    self._count(planes, g * c.group_vectors + v * c.vectors)
                    if self.answers is None:
                        with body.loop(c.vectors, "side") as side:
                            self._to_tile(planes, side, g * c.group_outputs + (v * c.vectors + side) * c.lanes, once)

    def _clear(self, g) -> None:
        c, lanes = self.c, self.c.lanes // 8
        with self.body.loop(self.pixels, "pixel") as pixel, self.body.loop(c.group_vectors * 8, "part") as part:
            at = pixel * tile_stride(c) + g * c.group_outputs + part * lanes
            self.body.store(self.tile, at, const(0, c.tile_dtype, lanes), lanes)

    def _cases(self, plane, g) -> None:
        """Write the cases of all pixels, of as many at a time as fill a register."""
        body, n, side = self.body, triples(self.words), self.cases.side
        rows = {place: row for row, place in reversed(list(enumerate(last_places(self.words))))}
        with body.loop(-(-self.pixels // side), "block") as block:
            queue = self._queue([tirx.min(block * side + i, self.pixels - 1) if i else block * side for i in range(side)], plane, g)

            def words(first, count, queue=queue):
                return tuple(body.bind(body.load(queue, side * (first + i), side), "x") for i in range(count))

            with body.loop(n, "t") as t:
                three = words(3 * t, 3)
                body.store(queue, side * (self.words + t), three[0] ^ three[1] ^ three[2], side)
                self.cases.store(three, t, block, list(range(64)))
            self.cases.store(self._last(words(3 * n, self.words - 2 * n), side), n, block, [rows.get(place, 0) for place in range(64)])

    def _queue(self, pixels: list, plane, g):
        """Read all words of some pixels into the queue, side by side."""
        body, side = self.body, len(pixels)
        queue = body.local("uint64", side * (self.words + triples(self.words)), "queue")
        places, start = [self._place(pixel) for pixel in pixels], 0
        for part in word_parts(self.shape.inputs, self.shape.word_bits):
            start = self._queue_part(queue, start, part, places, plane, g)
        return queue

    def _queue_part(self, queue, start: int, part: tuple, places: list, plane, g) -> int:
        """Read a part of the words, to place `start` of the queue on; return where it ends."""
        body, (kh, kw), side, (first, count, bits) = self.body, self.shape.taps, len(places), part
        per, words, dtype = 64 // bits, kh * kw * count, f"uint{bits}"
        size = -(-words // per)
        narrow = [body.local(dtype, size * per, "narrow") for _ in places] if per > 1 else []
        with body.loop(kh, "kh") as i, body.loop(kw, "kw") as j, body.loop(count, "w") as w:
            at = (i * kw + j) * count + w
            for which, place in enumerate(places):
                target, index = (narrow[which], at) if narrow else (queue, (start + at) * side + which)
                word = self.load_x(*place, plane, g, i, j, first + w)
                body.store(target, index, word if bits == self.shape.word_bits else tirx.Cast(dtype, word))
        for which, buffer in enumerate(narrow):
            for i in range(words, size * per):
                body.store(buffer, i, const(0, dtype))
            with body.loop(size, "w") as w:
                body.store(queue, (start + w) * side + which, reinterpret("uint64", body.load(buffer, w * per, per)))
        return start + size

    def _last(self, words: tuple, side: int) -> tuple:
        """Return `last_thirds` of pixels side by side."""

        def cut(word, first: int, size: int):
            word = tirx.shift_right(word, const(first, "uint64", side)) if first else word
            return word if first + size >= 64 else self.body.bind(tirx.bitwise_and(word, const((1 << size) - 1, "uint64", side)), "x")

        thirds = last_thirds(list(words), cut, lambda word, places: tirx.shift_left(word, const(places, "uint64", side)))
        return tuple(self.body.bind(third, "x") for third in thirds)

    def _count(self, planes, vector) -> None:
        """Count the differing bits of the vectors of channels from `vector` on that share a row, for all pixels; store the answers where they are asked for."""
        body, c, n, width = self.body, self.c, triples(self.words), self.register_words
        base = vector * c.depth * c.lanes
        with body.loop(c.vectors, "side") as side, body.loop(self.pixels, "pixel") as pixel:
            for plane in range(1, self.counts):
                start = const(0, "uint64", width) if self.answers is None else self._start(pixel, vector + side, plane)
                body.store(planes, self._plane(side, pixel, plane), start, width)
        # (case, row) of every lookup
        looks = [(i, i) for i in range(64 * n)] + [(64 * n + place, 64 * n + row) for row, place in enumerate(last_places(self.words))]
        chunks = min(sum(case == row for case, row in looks), len(looks) - 2) // self.straight
        at = chunks * self.straight
        places = [(at, case - at, row - at) for case, row in looks[at:]]
        step = self.straight * self.row_step
        with body.loop(chunks, "chunk") as chunk, body.loop(c.vectors, "side") as side:
            rows = self._rows(base + chunk * step + side * self.row_bytes, self.straight)
            with body.loop(self.pixels, "pixel") as pixel:
                if self.fetches:
                    self._fetch_next(base + (chunk + 1) * step, (chunk + 1) * self.straight, side, pixel)
                here = [(chunk * self.straight, i, i) for i in range(self.straight)]
                self._keep(self._counter(here, rows, planes, side, pixel), planes, side, pixel)
        with body.loop(c.vectors, "side") as side:
            rows = self._rows(base + at * self.row_step + side * self.row_bytes, len(places))
            with body.loop(self.pixels, "pixel") as pixel:
                case, row = self._look(places[-1], rows, pixel)
                if self.answers is None:
                    self._keep(self._counter(places[:-1], rows, planes, side, pixel), planes, side, pixel)
                    body.store(planes, self._plane(side, pixel, 0), row(case()), width)
                else:
                    # what the bits of weight 1 carry is all that matters of them
                    counter = self._counter(places[:-1], rows, planes, side, pixel, lambda: row(case()) & self._start(pixel, vector + side, 0))
                    counter.finish()
                    self.answers.store(*self._place(pixel), vector + side, counter.planes[-1])

    def _plane(self, side, pixel, plane: int):
        """Return where a plane of the counters stands."""
        return ((side * self.pixels + pixel) * self.counts + plane) * self.register_words

    def _place(self, pixel) -> tuple:
        """Return row and pixel of the row of a pixel of the tile."""
        return tirx.truncdiv(pixel, self.tile_shape.row_pixels), tirx.truncmod(pixel, self.tile_shape.row_pixels)

    def _start(self, pixel, vector, plane: int):
        """Return a plane that the counters of a pixel start from."""
        width = self.register_words
        return self.body.load(self.answers.table, self.answers.start(*self._place(pixel), vector) + plane * width, width)

    def _rows(self, start, count: int) -> list:
        """Return rows of the table as buffers of their own, of as many as a case tells apart."""
        most = CASE_ROWS if self.with_rows else count
        sizes = [min(most, count - first) for first in range(0, count, most)]
        return [self.body.part(self.weights, start + i * most * self.row_step, size * self.row_step, "rows") for i, size in enumerate(sizes)]

    def _fetch_next(self, rows, first, side, pixel) -> None:
        """Ask for a share of the next rows: they are read at places that no prefetcher foresees. So many are always left.

        Few pixels ask for what their cases read of them alone, many for everything.
        """
        if self.pixels < FEW_PIXELS and not self.with_rows:
            share = self.straight // self.c.vectors
            for i in range(share):
                at = rows + (side * share + i) * self.row_step + self.cases.load(pixel, first + side * share, i) * self.scale
                for line in range(0, self.row_step // 8, LINE_BYTES):
                    self.body.prefetch(self.weights, at + line)
            return
        lines = self.straight * self.row_step // LINE_BYTES
        lines = lines // 4 if self.with_rows else lines  # two instructions more each, where an index is shifted and added first
        share = -(-lines // (self.c.vectors * self.pixels))
        for i in range(share):
            self.body.prefetch(self.weights, rows + tirx.min((side * self.pixels + pixel) * share + i, lines - 1) * LINE_BYTES)

    def _look(self, place: tuple, rows, pixel) -> tuple[Callable, Callable]:
        """Return what reads the case of a pixel and what reads the table's row of that case; `place` is (first case, case from there on, row of `rows`)."""
        first, case, row = place
        if self.with_rows:
            return lambda: self.cases.load(pixel, first, case), lambda case: self._row(rows[row // CASE_ROWS], case * self.row_bytes)
        return lambda: self.cases.load(pixel, first, case), lambda case: self._row(rows[0], row * self.row_step + case * self.scale)

    def _row(self, rows, offset):
        return reinterpret(f"uint64x{self.register_words}", self.body.load(rows, offset, self.row_bytes))

    def _counter(self, places: list, rows, planes, side, pixel, carry: Callable | None = None) -> VerticalCounter:
        """Return the counter of a pixel, from plane 1 on, with rows of weight 2 added, and ``carry()`` where it is given."""
        body, width = self.body, self.register_words
        looks = [self._look(place, rows, pixel) for place in places]

        def plane(i: int):
            return body.load(planes, self._plane(side, pixel, 1 + i), width)

        if self.in_runs:
            counter = CounterInRuns(body, plane, self.counts - 1)
            counter.add_looked_up(looks)
            if carry is not None:
                counter.add(body.bind(carry(), "m"), 0)
            return counter
        if self.adder is None:
            counter = PairCounter(body, plane, self.counts - 1)
        else:
            counter = VerticalCounter(body, [body.bind(plane(i), "c") for i in range(self.counts - 1)], self.adder)
        if carry is not None:
            counter.add(body.bind(carry(), "m"), 0)
        for number, (case, vector) in enumerate(looks, 1):
            counter.add(body.bind(vector(case()), "w"), 0)
            if self.with_rows and number % _LOADED_EARLY == 0:
                body.fence(counter.planes[0])
        return counter

    def _keep(self, counter: VerticalCounter, planes, side, pixel) -> None:
        """Store the planes of the counter of a pixel."""
        counter.finish()
        for plane, value in enumerate(counter.planes, 1):
            if value is None:  # as it was
                continue
            self.body.store(planes, self._plane(side, pixel, plane), value, self.register_words)

    def _to_tile(self, planes, side, channel, once: bool) -> None:
        """Store the counts of one vector of channels, or add them where a plane was counted before."""
        body, c, width = self.body, self.c, self.register_words
        lanes = c.lanes // 8
        octets = -(-self.counts // 8)
        counts = body.local("uint8", octets * 8 * lanes, "counts")
        with body.loop(self.pixels, "pixel") as pixel:
            for octet in range(octets):
                found = range(8 * octet, 8 * octet + 8)
                zero = const(0, "uint64", width)
                vectors = [body.load(planes, self._plane(side, pixel, i), width) if i < self.counts else zero for i in found]
                vectors = transpose_planes(body, [body.bind(vector, "p") for vector in vectors], width)
                for r, vector in enumerate(vectors):
                    body.store(counts, (octet * 8 + r) * lanes, reinterpret(f"uint8x{lanes}", vector), lanes)
            for r in range(8):
                value = None
                for octet in range(octets):
                    part = tirx.Cast(f"{c.tile_dtype}x{lanes}", body.load(counts, (octet * 8 + r) * lanes, lanes))
                    value = part if value is None else value | tirx.shift_left(part, const(8, c.tile_dtype, lanes))
                at = pixel * tile_stride(c) + channel + r * lanes
                body.store(self.tile, at, value if once else value + body.load(self.tile, at, lanes), lanes)
