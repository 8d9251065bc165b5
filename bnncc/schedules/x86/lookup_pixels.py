"""Lookup formulation with lanes = pixels, for layers of few output channels a group.

As in `lookup`, ``vpshufb`` gives popcount(x ^ w) of four inputs, but here the weights choose the row of the table, and the bits of 32 pixels (AVX2) index it::

    for all pixels that the tile reads:     words -> bytes of four bits, [lookup of a tap][pixel]
    for a few taps at a time, at most 63 lookups:
        for all pixels of the tile:         bytes of the pixels that the taps read, [lookup][pixel]
        for two channels, four vectors of pixels:
            acc[channel][pixel] += table[w nibble of channel][x nibble of pixel]          8-bit lanes
        sums[channel][pixel] += acc                                                       16-bit lanes
    sums -> tile, by transposition of 8 x 8

In the bytes of the input a tap is a distance, so that those it reads are copied row by row; lanes read where they stand would cross lines of the cache, and be
empty between rows. Where strides skip pixels, those that one tap reads are a map of their own, shared by the taps a stride apart.

So lanes are full whatever the number of channels, a row of the table serves four vectors, and a vector of pixels two channels: 24 instructions for eight
lookups.

Measured on AVX2 (Zen 3, shared machine, the least of many runs in turns, threshold and packing included), GMAC/s:

===============  ==================  ==================  ==================  ==================  ==================  ==================
3x3              16@32               32 to 16@28         48@28               64 to 32@28         32@56               256@14, 8 groups
===============  ==================  ==================  ==================  ==================  ==================  ==================
lanes = pixels   281                 311                 402                 411                 405                 333
lookup           187                 171                 341                 330                 336                 332
===============  ==================  ==================  ==================  ==================  ==================  ==================

From 64 channels on `lookup` is faster. llvm-mca gives the loop 12.2 cycles for 2048 MAC on Zen 3; what is made of the words once for all channels, the sums
and the transposition take a fifth and more of the time where channels are few. Loads matter: four places of rows loaded at once gave up to 4 %, and in `lookup`
places prepared in memory were 15 % slower than shifts and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.formulations.interleave import deinterleave, transpose_block
from bnncc.schedules.register_tile import Contraction, TileShape, cleared, pixel_tiles, tile_stride
from bnncc.schedules.statements import Statements, const, reinterpret
from bnncc.schedules.x86.lane_blocks import InputMap, phase_steps
from bnncc.schedules.x86.lookup import LOOKUPS, nibbles, shuffle, write_table
from bnncc.targets import Variant

__all__ = ["lookup_pixels", "pixel_formulation"]

_CHANNELS = 2
_VECTORS = 4
"""Of a register tile: 8 accumulators, two rows of the table, and what is between them."""

_STRAIGHT = 2
"""Lookups of straight-line code."""

_BLOCK = 8
"""Channels that are transposed together."""

# Where it was measured to be faster than `lookup`.
_MOST_OUTPUTS = 48
_LEAST_INPUTS = 128
_LEAST_PIXELS = 128

_SUMS_BYTES = 16 * 1024
_MOST_PIXELS = 256


def lookup_pixels(shape: BinaryShape, variant: Variant) -> Formulation | None:
    """Return the lookup formulation with lanes = pixels, or None where it does not pay.

    It pays where output channels are few, and inputs and pixels many.
    """
    inputs = shape.taps[0] * shape.taps[1] * shape.inputs
    if "vpopcnt" in variant.instructions or shape.outputs > _MOST_OUTPUTS or inputs < _LEAST_INPUTS or shape.pixels < _LEAST_PIXELS:
        return None
    return pixel_formulation(shape, variant)


def pixel_formulation(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> Formulation | None:
    """Return the formulation of any shape whose counts fit 16 bits, where the machine has ``pshufb``."""
    depth = -(-shape.inputs // 4)
    if "pshufb" not in variant.instructions or 2 * 4 * depth * shape.taps[0] * shape.taps[1] >= 1 << 16:
        return None
    lanes = min(variant.vector_bits, 256) // 8
    vectors = -(-shape.outputs // _BLOCK)
    c = shape.contraction(
        depth=depth,
        lanes=_BLOCK,
        acc_dtype="uint8",
        weight_dtype="uint8",
        tile_dtype="uint16",
        vectors=vectors,
    )

    def fill(body, c, tile_shape, weights, tile, load_x):
        _PixelLanes(body, c, shape, lanes, tile_shape, weights, tile, load_x).write()

    most = max(lanes, min(_MOST_PIXELS, _SUMS_BYTES // (2 * _BLOCK * vectors)))
    most = choose(choices, "pixels of a tile", most, [pixels for pixels in (64, 128, 256, 512) if pixels >= lanes])
    name = f"lookup by pixels, {shape.word} words, vectors of {lanes} pixels"
    return Formulation(c, most, lambda array: _arrange(c, nibbles(array, shape.inputs)), fill, 0, name, pixel_lanes=lanes)


def _arrange(c: Contraction, weights: np.ndarray) -> np.ndarray:
    """Bring nibbles of shape (outputs, KH, KW, depth) into the order [group][pair of channels][lookup][channel of the pair], as offsets of table rows."""
    padded = np.zeros((c.groups, c.group_vectors * _BLOCK, c.tap_count), np.uint8)
    padded[:, : c.group_outputs] = weights.reshape(c.groups, c.group_outputs, -1) * 16
    return np.ascontiguousarray(padded.reshape(c.groups, -1, _CHANNELS, c.tap_count).swapaxes(2, 3)).reshape(-1)


@dataclass(frozen=True)
class _Chunk:
    """Lookups that 8-bit lanes hold the sum of: `words` words from `word` on, at `taps` taps from `tap` on; `lookups` in all, from `first` on."""

    tap: object
    taps: int
    word: object
    words: int
    first: object
    lookups: int


class _PixelLanes:
    """Writes the code that computes all channels of a tile of pixels; arguments as of `register_tile.fill_tile`."""

    def __init__(self, body: Statements, c: Contraction, shape: BinaryShape, lanes: int, tile_shape: TileShape, weights, tile, load_x: Callable):
        self.body, self.c, self.shape, self.lanes, self.tile_shape = body, c, shape, lanes, tile_shape
        self.weights, self.tile, self.load_x = weights, tile, load_x
        self.word_bytes = shape.word_bits // 8
        self.word_lookups = 2 * self.word_bytes
        self.channels = c.group_vectors * _BLOCK
        self.maps, places = self._maps()
        self.pitch = max(part.columns for part in self.maps)
        self.pixels = tile_shape.pixels
        self.vectors = -(-self.pixels // lanes)
        self.width = self.vectors * lanes
        self.part = 16 if tile_shape.row_pixels <= 16 else lanes  # bytes that are copied at once, beyond the end of a row too
        self.map_width = -(-(max(part.rows for part in self.maps) * self.pitch + self.part) // lanes) * lanes
        self.distances = [number * c.depth * self.map_width + row * self.pitch + column for number, row, column in places]

    def _maps(self) -> tuple[list[InputMap], list[tuple[int, int, int]]]:
        """Return the maps of the input, and for each tap the number of its map and how many rows and columns of it the tap is from the first."""
        steps, each = phase_steps(self.shape), self.shape.rows_each
        taps_of: dict[tuple, list] = {}
        for tap, (phase, _, _) in steps.items():
            taps_of.setdefault(phase, []).append(tap)
        maps = []
        for taps in taps_of.values():
            down, right = (max(steps[tap][axis] for tap in taps) for axis in (1, 2))
            maps.append(InputMap(taps[0], self.tile_shape.rows + down * each, self.tile_shape.row_pixels + right))
        numbers = {phase: number for number, phase in enumerate(taps_of)}
        return maps, [(numbers[phase], row * each, column) for phase, row, column in steps.values()]

    def write(self) -> None:
        """Write everything."""
        body, c = self.body, self.c
        table = write_table(body)
        words = body.local(self.shape.word, self.map_width, "words")
        maps = body.local("uint8", len(self.maps) * c.depth * self.map_width, "maps")
        bits = body.local("uint8", max(cut.lookups for cut in self._cuts()) * self.width + self.lanes, "bits")
        sums = body.local("uint16", self.channels * self.width, "sums")
        distances = body.local("int32", len(self.distances), "distances")
        for tap, distance in enumerate(self.distances):
            body.store(distances, tap, const(distance, "int32"))
        with body.loop(c.groups, "g") as g:
            with body.loop(self.channels * self.width // (self.lanes // 2), "i") as i:
                body.store(sums, i * (self.lanes // 2), const(0, "uint16", self.lanes // 2), self.lanes // 2)
            with body.loop(c.planes, "plane") as plane:
                for number, part in enumerate(self.maps):
                    self._nibbles(words, maps, number * c.depth * self.map_width, part, plane, g)
                for cut in self._cuts():
                    with self._places(cut) as chunk:
                        self._copy(maps, bits, distances, chunk)
                        with body.loop(self.channels // _CHANNELS, "pair") as pair:
                            for first, count, width in pixel_tiles(self.vectors, _VECTORS):
                                with body.loop(count, "r") as r:
                                    self._accumulate(table, bits, sums, g, pair, first + r * width, width, chunk)
            self._to_tile(sums, g)

    def _cuts(self) -> Iterator[_Chunk]:
        """Cut the lookups of all taps into chunks of at most `LOOKUPS`; `tap` and `word` are how often a chunk is repeated along taps and words."""
        c, words = self.c, self.shape.words
        taps = c.taps[0] * c.taps[1]
        if c.depth <= LOOKUPS:
            per = -(-taps // -(-taps // (LOOKUPS // c.depth)))
            yield _Chunk(taps // per, per, 1, words, 0, per * c.depth)
            if taps % per:
                yield _Chunk(1, taps % per, 1, words, taps // per * per * c.depth, taps % per * c.depth)
            return
        most = LOOKUPS // self.word_lookups
        whole = c.depth // self.word_lookups
        per = -(-whole // -(-whole // most))
        yield _Chunk(taps, 1, whole // per, per, 0, per * self.word_lookups)
        done = whole // per * per
        if whole > done:
            yield _Chunk(taps, 1, 1, whole - done, done * self.word_lookups, (whole - done) * self.word_lookups)
        if c.depth % self.word_lookups:
            yield _Chunk(taps, 1, 1, 1, whole * self.word_lookups, c.depth % self.word_lookups)

    @contextmanager
    def _places(self, cut: _Chunk) -> Iterator[_Chunk]:
        """Open the loops that repeat a chunk of `_cuts` and yield it at its place."""
        c = self.c
        start_tap, start = divmod(cut.first, c.depth)
        with self.body.loop(cut.tap, "tap") as t, self.body.loop(cut.word, "part") as part:
            tap, word = start_tap + t * cut.taps, start // self.word_lookups + part * cut.words
            yield _Chunk(tap, cut.taps, word, cut.words, tap * c.depth + word * self.word_lookups, cut.lookups)

    def _nibbles(self, words, bits, start: int, part: InputMap, plane, g) -> None:
        """Bring the bits of all pixels of a map into the order [lookup][pixel], four a byte, from element `start` on."""
        body = self.body
        whole = self.c.depth // self.word_lookups
        for first, repeats, lookups in ((0, whole, self.word_lookups), (whole, 1, self.c.depth % self.word_lookups)):
            if not repeats or not lookups:
                continue
            with body.loop(repeats, "w") as w:
                with body.loop(part.rows, "row") as row, body.loop(part.columns, "p") as p:
                    body.store(words, row * self.pitch + p, self.load_x(row, p, plane, g, *part.tap, first + w))
                at = start + (first + w) * self.word_lookups * self.map_width
                with body.loop(-(-part.rows * self.pitch // self.lanes), "v") as v:
                    for i, octets in enumerate(deinterleave(body, self._items(words, v * self.lanes), self.lanes)):
                        for half in range(2):
                            if 2 * i + half < lookups:
                                body.store(bits, at + (2 * i + half) * self.map_width + v * self.lanes, self._half(octets, half), self.lanes)

    def _copy(self, maps, bits, distances, chunk: _Chunk) -> None:
        """Copy the bytes that the taps of a chunk read; what is written beyond a row, the next one overwrites."""
        body, shape, lookups = self.body, self.tile_shape, chunk.lookups // chunk.taps
        with body.loop(chunk.taps, "t") as t:
            distance = body.bind(body.load(distances, chunk.tap + t) + chunk.word * (self.word_lookups * self.map_width), "distance")
            with body.loop(lookups, "n") as n, body.loop(shape.rows, "row") as row:
                source, target = distance + n * self.map_width + row * self.pitch, (t * lookups + n) * self.width + row * shape.row_pixels
                with body.loop(-(-shape.row_pixels // self.part), "part") as part:
                    body.store(bits, target + part * self.part, body.load(maps, source + part * self.part, self.part), self.part)

    def _items(self, words, first) -> list:
        """Load the words of as many pixels as a vector has lanes, so that `deinterleave`, which works within 128 bits, leaves the pixels in their order."""
        count, halves = self.word_bytes, self.lanes // 16
        items = 16 // count
        found = []
        for i in range(count):
            parts = [self.body.load(words, first + half * 16 + i * items, items) for half in range(halves)]
            value = parts[0] if halves == 1 else tirx.Shuffle(parts, list(range(items * halves)))
            found.append(self.body.bind(reinterpret(f"uint8x{self.lanes}", value), "x"))
        return found

    def _half(self, octets, half: int):
        """Return four bits of each byte; there is no shift of bytes, and one of 64 bits brings in what is masked."""
        lanes = self.lanes
        if half:
            wide = reinterpret(f"uint64x{lanes // 8}", octets)
            octets = reinterpret(f"uint8x{lanes}", tirx.shift_right(wide, const(4, "uint64", lanes // 8)))
        return tirx.bitwise_and(octets, const(15, "uint8", lanes))

    def _accumulate(self, table, bits, sums, g, pair, vector, vectors: int, chunk: _Chunk) -> None:
        """Add the lookups of a chunk for two channels and some vectors of pixels."""
        body, lanes = self.body, self.lanes
        acc, slots = cleared(body, "uint8", _CHANNELS, vectors, lanes)
        base = ((g * (self.channels // _CHANNELS) + pair) * self.c.tap_count + chunk.first) * _CHANNELS

        def look(n, count):
            """Write `count` lookups from `n` on: the places of their rows are loaded together."""
            places = body.load(self.weights, base + n * _CHANNELS, count * _CHANNELS)
            dtype = f"uint{8 * count * _CHANNELS}"
            places = body.bind(reinterpret(dtype, places), "places")
            for k in range(count):
                lines = []
                for i in range(_CHANNELS):
                    offset = tirx.bitwise_and(tirx.shift_right(places, const(8 * (k * _CHANNELS + i), dtype)), const(255, dtype))
                    row = body.load(table, tirx.Cast("int32", offset), 16)
                    lines.append(body.bind(tirx.Shuffle([row] * (lanes // 16), list(range(lanes))) if lanes > 16 else row, "row"))
                for j in range(vectors):
                    x = body.load(bits, (n + k) * self.width + (vector + j) * lanes, lanes)
                    for i in range(_CHANNELS):
                        slot = (i * vectors + j) * lanes
                        body.store(acc, slot, body.load(acc, slot, lanes) + shuffle(lines[i], x, lanes), lanes)

        whole, rest = divmod(chunk.lookups, _STRAIGHT)
        with body.loop(whole, "n") as n:
            look(n * _STRAIGHT, _STRAIGHT)
        if rest:
            look(whole * _STRAIGHT, rest)
        half = lanes // 2
        for i, j, slot in slots:
            for h in range(2):
                at = (pair * _CHANNELS + i) * self.width + (vector + j) * lanes + h * half
                counts = tirx.Cast(f"uint16x{half}", body.load(acc, slot + h * half, half))
                body.store(sums, at, body.load(sums, at, half) + counts, half)

    def _to_tile(self, sums, g) -> None:
        """Store the sums, all channels of a few pixels in turn, as a line of the cache holds neighbouring channels."""
        half = self.lanes // 2
        whole = self.pixels // half * half
        with self.body.loop(whole // half, "part") as part:
            self._to_pixels(sums, g, part * half, half, half)
        for first in range(whole, self.pixels, 8):
            self._to_pixels(sums, g, first, 8, min(8, self.pixels - first))

    def _to_pixels(self, sums, g, pixel, size: int, count: int) -> None:
        """Store `count` of the sums of `size` pixels, 8 or 16, from `pixel` on."""
        body, c = self.body, self.c
        with body.loop(c.group_vectors, "block") as block:
            rows = [body.load(sums, (block * _BLOCK + i) * self.width + pixel, size) for i in range(_BLOCK)]
            for i, vector in enumerate(transpose_block(body, [body.bind(row, "s") for row in rows], size)):
                for part in range(size // 8):
                    item = part * 8 + i
                    if item < count:
                        value = tirx.Shuffle([vector], list(range(part * 8, part * 8 + 8))) if size > 8 else vector
                        body.store(self.tile, (pixel + item) * tile_stride(c) + g * c.group_outputs + block * _BLOCK, value, 8)
