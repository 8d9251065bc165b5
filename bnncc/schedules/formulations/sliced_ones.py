"""Sliced formulation of few pixels and many weights, dense layers before all: the rows of the inputs that are 1 are added, of the weights, transposed.

Of K inputs x and weights w of an output, |x| inputs are 1 and |w| weights are. The number of differing bits is::

    |x| + |w| - 2 n        n: sum of w over the inputs that are 1
    |x| - |w| + 2 n        n: sum of w over the inputs that are 0

So of the K rows of the table, each a bit of every output channel, those of the inputs that are 1 are added to vertical counters, or those of the others where
they are fewer: K / 2 at most, as many as `sliced` looks up. But the table has a bit for a weight, a quarter of that of `sliced`. Which rows are added is listed
first, for eight inputs at a time from a table of the places of a byte's bits::

    inputs -> list of the places of their rows                             once for all channels
    for some vectors of channels, whose rows are neighbours:
        for every 128 rows of the list, for every vector:
            planes += row                                                  64 at a time, straight-line: 64 loads, 63 full adders
        for every vector:         planes -> tile                           8 x 8 bit transposition

The time depends on the input: of which a quarter is 1, or 0, it takes little more than half of it.

Measured on AVX2 (Zen 3, shared machine, one thread, least of 25 runs in turns, GMAC/s, inputs half 1): one pixel of 1024 to 1024 channels 710, `sliced` 514,
popcount 305; 2048 to 2048 677, 406, 299; 4096 to 4096 523, 275, 288; 9216 to 4096 463, 166, 276; more in `sliced`. Asking for lines ahead took 16 % more time
at 2048, 8 % at 4096, and nothing at 9216; rows of 64 bytes were as fast as those of 128, and those of 256 and 512 slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.formulations.vertical import transpose_planes
from bnncc.schedules.formulations.vertical_pairs import PairCounter
from bnncc.schedules.register_tile import LINE_BYTES, Contraction, TileShape, tile_stride
from bnncc.schedules.statements import Statements, const, reinterpret, spread
from bnncc.targets import Variant

__all__ = ["sliced_by_ones"]

_STRAIGHT, _SHORT = 64, 16
"""Rows of straight-line code, and of what is left of them; the list ends with rows of zeros."""

_PARTS = 2
"""Times so many rows stay in the L1 cache while the vectors that share them are added."""

_ROW_BYTES = 2 * LINE_BYTES
"""Of the vectors whose rows are neighbours."""

_TILE_BYTES = 64 * 1024


def sliced_by_ones(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> Formulation | None:
    """Return the formulation of any shape whose counts fit 16 planes, whether it pays or not, where a load adds any offset to its base."""
    inputs, lanes = shape.taps[0] * shape.taps[1] * shape.inputs, variant.vector_bits
    if inputs >= 1 << 16 or not variant.indexed_offsets or "vpternlog" in variant.instructions:
        return None
    c = Contraction(
        groups=shape.groups,
        group_outputs=shape.outputs,
        taps=(1, 1),
        depth=inputs + 1,
        lanes=lanes,
        acc_dtype="uint64",
        weight_dtype="uint8",
        tile_dtype="uint16" if 2 * inputs < 1 << 16 else "int32",
        vectors=1,
        planes=shape.planes,
    )
    options = [n for n in (1, 2, 4, 8) if n * lanes <= 8 * _ROW_BYTES and c.group_vectors % n == 0]
    c = replace(c, vectors=choose(choices, "sliced vectors", options[-1], options))

    def fill(body, c, tile_shape, weights, tile, load_x):
        _Ones(body, c, shape, tile_shape, weights, tile, load_x).write()

    name = f"sliced by ones, {shape.word} words, vectors of {lanes} channels, {c.vectors} a row"
    channels = c.groups * c.group_vectors * lanes
    size = c.depth * channels // 8 + channels * np.dtype(c.tile_dtype).itemsize + 256 * 8
    return Formulation(c, 1, lambda array: _arrange(array, c, shape), fill, _TILE_BYTES, name, weight_elements=size)


def _places() -> np.ndarray:
    """Return the places of the bits of every byte, 8 bytes each."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return np.argsort(1 - bits, axis=1, kind="stable").astype(np.uint8).reshape(-1)


def _arrange(words: np.ndarray, c: Contraction, shape: BinaryShape) -> np.ndarray:
    """Build [group][vectors that share a row][row][vector][bytes], the last row zeros, then how many weights of each channel are 1, then `_places`."""
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), shape.taps[0] * shape.taps[1], -1)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., : shape.inputs].reshape(c.groups, c.group_outputs, -1)
    padded = np.zeros((c.groups, c.group_vectors * c.lanes, c.depth), np.uint8)
    padded[:, : c.group_outputs, :-1] = bits
    # the counts of bit r of the bytes of a vector are vector r of the tile
    spread_out = padded.reshape(-1, c.vectors, 8, c.lanes // 8, c.depth).transpose(0, 4, 1, 3, 2)
    rows = np.packbits(spread_out, axis=-1, bitorder="little")
    ones = padded.sum(axis=-1, dtype=np.int64).astype(c.tile_dtype)
    return np.concatenate([rows.reshape(-1), ones.reshape(-1).view(np.uint8), _places()])


class _Ones:
    """Writes the code that computes all channels of a tile of pixels; arguments as of `register_tile.fill_tile`."""

    def __init__(self, body: Statements, c: Contraction, shape: BinaryShape, tile_shape: TileShape, weights, tile, load_x: Callable):
        self.body, self.c, self.shape, self.tile_shape = body, c, shape, tile_shape
        self.weights, self.tile, self.load_x = weights, tile, load_x
        self.pixels = tile_shape.rows * tile_shape.row_pixels
        self.inputs = c.depth - 1
        self.octets = shape.taps[0] * shape.taps[1] * shape.words * (shape.word_bits // 8)
        self.vector_bytes, self.register_words = c.lanes // 8, c.lanes // 64
        self.row_bytes = c.vectors * self.vector_bytes
        self.counts = max(1, (self.inputs // 2).bit_length())
        channels = c.groups * c.group_vectors * c.lanes
        self.ones_at = c.depth * channels // 8
        self.places_at = self.ones_at + channels * np.dtype(c.tile_dtype).itemsize

    def write(self) -> None:
        """Write everything."""
        body, c = self.body, self.c
        bits = body.local("uint8", self.octets, "bits")
        rows = body.local("int32", self.inputs // 2 + _SHORT + 8, "rows")
        planes = body.local("uint64", c.vectors * self.counts * self.register_words, "planes")
        sums = body.local(c.tile_dtype, 2, "sums")
        with body.loop(c.groups, "g") as g, body.loop(self.pixels, "pixel") as pixel, body.loop(c.planes, "plane") as plane:
            count = self._list(bits, rows, sums, pixel, plane, g)
            with body.loop(c.group_vectors // c.vectors, "v", parallel=self.tile_shape.channel_parts > 1) as v:
                self._count(planes, rows, count, g * (c.group_vectors // c.vectors) + v)
                with body.loop(c.vectors, "side") as side:
                    self._to_tile(planes, sums, pixel, plane, side, g, v * c.vectors + side)

    def _list(self, bits, rows, sums, pixel, plane, g):
        """List where the rows that are added stand, and return how many of `_SHORT` there are; `sums` are what a sum is turned with, and what is added then."""
        body, shape, dtype = self.body, self.shape, self.c.tile_dtype
        (kh, kw), each = shape.taps, shape.word_bits // 8
        place = tirx.truncdiv(pixel, self.tile_shape.row_pixels), tirx.truncmod(pixel, self.tile_shape.row_pixels)
        found = body.local("int32", 2, "found")  # inputs that are 1; rows in the list
        body.store(found, 0, const(0, "int32"))
        with body.loop(kh, "kh") as i, body.loop(kw, "kw") as j, body.loop(shape.words, "w") as w:
            word = body.bind(self.load_x(*place, plane, g, i, j, w), "word")
            body.store(found, 0, body.load(found, 0) + tirx.Cast("int32", tirx.call_intrin(shape.word, "tirx.popcount", word)))
            body.store(bits, ((i * kw + j) * shape.words + w) * each, reinterpret(f"uint8x{each}", word) if each > 1 else word, each)
        ones = body.bind(body.load(found, 0), "ones")
        most = body.bind(tirx.Cast("int32", ones * 2 > self.inputs), "most")  # whether the inputs that are 0 are listed
        body.store(sums, 0, tirx.Cast(dtype, most - 1))
        body.store(sums, 1, tirx.Cast(dtype, ones + 1 - most))
        body.store(found, 1, const(0, "int32"))
        octets = shape.words * each
        with body.loop(kh * kw, "tap") as tap, body.loop(octets, "o") as o:
            octet = tirx.bitwise_xor(tirx.Cast("int32", body.load(bits, tap * octets + o)), -most)
            if shape.inputs % shape.word_bits:  # no input stands behind the last
                octet = tirx.bitwise_and(octet, tirx.shift_right(const(255, "int32"), tirx.max(tirx.min(o * 8 + 8 - shape.inputs, 8), 0)))
            octet = body.bind(tirx.bitwise_and(octet, const(255, "int32")), "octet")
            here = body.load(found, 1)
            listed = tirx.Cast("int32x8", body.load(self.weights, self.places_at + octet * 8, 8)) + spread(tap * shape.inputs + o * 8, 8)
            body.store(rows, here, listed * const(self.row_bytes, "int32", 8), 8)
            body.store(found, 1, here + tirx.call_intrin("int32", "tirx.popcount", octet))
        listed = body.bind(body.load(found, 1), "listed")
        for i in range(0, _SHORT, 8):
            body.store(rows, listed + i, const(self.inputs * self.row_bytes, "int32", 8), 8)
        return body.bind(tirx.truncdiv(listed + (_SHORT - 1), _SHORT), "count")

    def _count(self, planes, rows, count, block) -> None:
        """Add the rows of the list to the counters of the vectors that share a row; `count` times `_SHORT` of them."""
        body, vectors = self.body, self.c.vectors
        with body.loop(vectors * self.counts, "i") as i:
            body.store(planes, i * self.register_words, const(0, "uint64", self.register_words), self.register_words)
        size = self.c.depth * self.row_bytes
        table = body.part(self.weights, block * size, size, "table")
        times = _STRAIGHT // _SHORT
        whole = body.bind(tirx.truncdiv(count, times), "whole")
        with body.loop(tirx.truncdiv(whole + (_PARTS - 1), _PARTS), "chunk") as chunk, body.loop(vectors, "side") as side:
            # a loop inside that of the vectors: LLVM would keep the places of all rows, of which there are more than registers, for all of them
            with body.loop(tirx.min(whole - chunk * _PARTS, _PARTS), "part") as part:
                self._add(planes, rows, table, (chunk * _PARTS + part) * _STRAIGHT, _STRAIGHT, side)
        with body.loop(vectors, "side") as side, body.loop(count - whole * times, "rest") as rest:
            self._add(planes, rows, table, (whole * times + rest) * _SHORT, _SHORT, side)

    def _add(self, planes, rows, table, first, size: int, side) -> None:
        """Add a vector of `size` rows of the list from `first` on, straight-line."""
        body, width = self.body, self.register_words

        def plane(i):
            return body.load(planes, (side * self.counts + i) * width, width)

        own = body.part(table, side * self.vector_bytes, self.c.depth * self.row_bytes, "own")
        counter = PairCounter(body, plane, self.counts)
        for i in range(size):
            counter.add(body.bind(reinterpret(f"uint64x{width}", body.load(own, body.load(rows, first + i), self.vector_bytes)), "w"), 0)
        counter.finish()
        for i, value in enumerate(counter.planes):
            if value is not None:
                body.store(planes, (side * self.counts + i) * width, value, width)

    def _to_tile(self, planes, sums, pixel, plane, side, g, vector) -> None:
        """Store the numbers of differing bits of one vector of channels, or add them where a plane was counted before."""
        body, c, width, lanes = self.body, self.c, self.register_words, self.vector_bytes
        octets = -(-self.counts // 8)
        dtype = f"{c.tile_dtype}x{lanes}"
        counts = body.local("uint8", octets * 8 * lanes, "counts")
        for octet in range(octets):
            found = [i if i < self.counts else None for i in range(8 * octet, 8 * octet + 8)]
            vectors = [const(0, "uint64", width) if i is None else body.load(planes, (side * self.counts + i) * width, width) for i in found]
            for r, value in enumerate(transpose_planes(body, [body.bind(value, "p") for value in vectors], width)):
                body.store(counts, (octet * 8 + r) * lanes, reinterpret(f"uint8x{lanes}", value), lanes)
        turn, offset = (spread(body.load(sums, i), lanes) for i in (0, 1))
        ones = self.ones_at + (g * c.group_vectors + vector) * c.lanes * np.dtype(c.tile_dtype).itemsize
        size = lanes * np.dtype(c.tile_dtype).itemsize
        for r in range(8):
            value = None
            for octet in range(octets):
                part = tirx.Cast(dtype, body.load(counts, (octet * 8 + r) * lanes, lanes))
                value = part if value is None else value | tirx.shift_left(part, const(8, c.tile_dtype, lanes))
            own = reinterpret(dtype, body.load(self.weights, ones + r * size, size))
            value = tirx.bitwise_xor(value + value - own, turn) + offset
            at = pixel * tile_stride(c) + g * c.group_outputs + vector * c.lanes + r * lanes
            if not (isinstance(c.planes, int) and c.planes == 1):
                value = value + tirx.Select(tirx.EQ(plane, 0), const(0, c.tile_dtype, lanes), body.load(self.tile, at, lanes))
            body.store(self.tile, at, value, lanes)
