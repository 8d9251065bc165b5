"""Lookup formulation for machines without a vector popcount: four inputs at a time through ``pshufb``, lanes = output channels.

Row a of a table holds popcount(a ^ w) for the 16 values of w. Four bits of a pixel choose the row, which is spread over the register; four bits of
the weights, one byte a lane, index it::

    acc[lane] += table[x nibble][w nibble of lane]          8-bit lanes

That is one ``vpshufb`` and one ``vpaddb`` for 128 MAC on AVX2, beside nine operations for 256 MAC of the popcount formulation. A lane grows by at most 4 a
lookup, so after at most 63 lookups the accumulators are added to the tile, 16 bits a channel. Weights take a byte for four of them; a chunk of them
(at most 63 lookups) is used for all pixels of a tile while it is in the L1 cache.

Measured on AVX2 (Zen 3, 3.2 GHz, one thread, shared machine, 3x3 convolution with threshold and packing), GMAC/s, C channels at H x H:

=============  =====  ======  ======  =====
shape          64@56  128@28  256@14  512@7
=============  =====  ======  ======  =====
lookup         429    505     505     480
popcount       289    301     280     303
=============  =====  ======  ======  =====

The limit is two ``vpshufb`` a cycle, 256 MAC a cycle or 820 GMAC/s; the best shape reaches 62 % of it. A loop of ``vpshufb`` and ``vpaddb`` on registers alone
reaches 86 %. Wider register tiles (two pixels x four vectors, with or without spills) were slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.register_tile import Contraction, TileShape, arrange_weights, blocks, cleared, tile_place, tile_stride
from bnncc.schedules.statements import Statements, const
from bnncc.targets import Variant

__all__ = ["LOOKUPS", "lookup", "lookup_formulation", "nibbles", "shuffle", "write_table"]

LOOKUPS = 63
"""Lookups of at most 4 that an 8-bit lane holds."""

_STRAIGHT = 4
"""Lookups without a loop. More cost compile time and gain nothing: LLVM reassociates long chains of additions into partial sums, and spills these."""

_TILES = ((1, 1), (2, 1), (4, 1), (6, 1), (8, 1), (1, 2), (2, 2), (3, 2), (4, 2), (1, 3), (2, 3), (1, 4), (2, 4), (1, 6))
"""Pixels x vectors that may be tried."""

_TILE_BYTES = 32 * 1024

_FILLED = 0.6
"""Share of the lanes that channels have to fill."""

_ALONE_BYTES = 192 * 1024
"""Of weights that a single pixel reads, from the L2 cache at most, from where they come as fast as packed ones are counted.

GMAC/s of lookup and popcount, dense layers, Zen 3: 64 to 64 270 and 189, 128 to 128 446 and 232, 1024 to 64 475 and 295, 4096 to 128 (128 KB) 406 and 309,
8192 to 100 (256 KB) 312 and 309, 2048 to 2048 195 and 260; in turns with others, so that they come from the L3 cache, 1024 to 64 356 and 294, 512 to 100 300
and 299.
"""

_LOOKUPS_A_COUNT = 2
"""Lookups that cost as much as counting the bits of a vector of words, where these are few.

Time of lookups in 16 lanes over popcounts, 3x3 at 16 x 16 with threshold and packing: 16 to 16 channels 0.72 (AVX2) and 0.49 (SSE), 16 to 8 0.92 and 0.67, 32
to 16 0.92 and 0.63, 32 to 8 1.21 and 0.87, 64 to 16 1.33 and 0.90, 64 to 8 1.73 and 1.26.
"""


def lookup(shape: BinaryShape, variant: Variant) -> Formulation | None:
    """Return the lookup formulation, or None where it does not pay.

    It pays where the machine has no vector popcount, the channels fill most of the lanes, and several pixels share each weight or all are near: the
    weights take four times the memory of packed ones. With few output channels it pays, in 16 lanes, where input channels leave much of the words empty.
    """
    if "pshufb" not in variant.instructions or "vpopcnt" in variant.instructions:
        return None
    found = lookup_formulation(shape, variant)
    c = found.contraction
    if shape.pixels < 2 and c.tap_count * c.lanes * c.group_vectors * c.groups > _ALONE_BYTES:
        return None
    counts = shape.words * -(-shape.outputs // variant.lanes(shape.word_bits))
    few = not _fills(shape, min(variant.vector_bits, 256) // 8)
    return None if few and found.contraction.depth > _LOOKUPS_A_COUNT * counts else found


def _fills(shape: BinaryShape, lanes: int) -> bool:
    return shape.outputs >= _FILLED * lanes * -(-shape.outputs // lanes)


def lookup_formulation(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> Formulation | None:
    """Return the lookup formulation of any shape, whether it pays or not; None where the machine has no ``pshufb``."""
    if "pshufb" not in variant.instructions:
        return None
    lanes = min(variant.vector_bits, 256) // 8
    lanes = choose(choices, "lookup lanes", lanes if _fills(shape, lanes) else 16, sorted({16, lanes}))
    most = min(4, -(-shape.outputs // lanes))
    tile = {1: 4, 2: 3}.get(most, 1), most
    widest, vectors = choose(choices, "lookup tile", tile, [tile, *(other for other in _TILES if other[1] <= -(-shape.outputs // lanes))])
    straight = choose(choices, "lookup straight", _STRAIGHT, (2, 4, 8))
    c = _contraction(shape, lanes, vectors)

    def fill(body, c, tile_shape, weights, tile, load_x):
        _fill(body, c, shape, tile_shape, weights, tile, load_x, straight)

    name = f"lookup, {shape.word} words, tile {widest} pixels x {c.vectors} vectors of {lanes} channels"
    return Formulation(c, widest, lambda array: arrange_weights(c, nibbles(array, shape.inputs)), fill, _TILE_BYTES, name)


def _contraction(shape: BinaryShape, lanes: int, vectors: int) -> Contraction:
    depth = -(-shape.inputs // 4)
    largest = 2 * 4 * depth * shape.taps[0] * shape.taps[1]
    return shape.contraction(
        depth=depth,
        lanes=lanes,
        acc_dtype="uint8",
        weight_dtype="uint8",
        tile_dtype="uint16" if largest < 1 << 16 else "int32",
        vectors=vectors,
    )


def nibbles(words: np.ndarray, channels: int) -> np.ndarray:
    """Split packed channels of shape (..., words) into groups of four, one a byte: (..., ceil(channels / 4))."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    split = np.stack([octets & 15, octets >> 4], axis=-1).reshape(*octets.shape[:-1], -1)
    return split[..., : -(-channels // 4)]


def _fill(body: Statements, c: Contraction, shape: BinaryShape, tile_shape: TileShape, weights, tile, load_x: Callable, straight: int) -> None:
    table = write_table(body)
    stride, vector_size = tile_stride(c), c.tap_count * c.lanes
    for g, first, vectors in blocks(body, c, tile_shape):
        base = (g * c.group_vectors + first) * vector_size
        # here, not for the whole tile at once: the last vector of the group before may have reached into this one
        with body.loop(tile_shape.pixels, "pixel") as pixel:
            for j in range(vectors):
                body.store(tile, pixel * stride + g * c.group_outputs + (first + j) * c.lanes, const(0, c.tile_dtype, c.lanes), c.lanes)
        with body.loop(c.planes, "plane") as plane:
            for outer, inner in _chunks(body, c, shape):
                with outer as chunk:
                    for row, pixel, width in tile_shape.each(body):
                        part = (row, pixel, width, vectors), (plane, g, first)
                        _register_tile(body, c, tile_shape, *part, inner, chunk, table, weights, base, tile, load_x, straight)


def write_table(body: Statements):
    """Write the table of popcount(a ^ w), 16 rows of 16 bytes."""
    table = body.local("uint8", 256, "table")
    for row in range(16):
        counts = [tirx.const((row ^ w).bit_count(), "uint8") for w in range(16)]
        body.store(table, row * 16, tirx.Shuffle(counts, list(range(16))), 16)
    return table


def _chunks(body: Statements, c: Contraction, shape: BinaryShape) -> Iterator[tuple]:
    """Cut the taps into chunks of at most 63 lookups.

    Yields
    ------
    outer : context manager
        Loops around the pixels; gives the chunk's place.
    inner : callable
        ``inner(place)``: context manager of the loops inside; gives (kh, kw, word) and how many lookups the word takes.
    """
    kh, kw = c.taps
    word_lookups = shape.word_bits // 4
    whole, rest = divmod(c.depth, word_lookups)

    @contextmanager
    def around_rows():
        with body.loop(kh, "kh") as i:
            yield i, None, 0

    @contextmanager
    def around_taps():
        with body.loop(kh, "kh") as i, body.loop(kw, "kw") as j:
            yield i, j, 0

    def words_of(first, count, lookups):
        """Loops over `count` words from `first` on, at a tap or along a row of taps."""

        @contextmanager
        def inner(place):
            i, j, start = place
            with body.loop(kw, "kw") if j is None else _nothing(j) as column, body.loop(count, "w") as w:
                yield (i, column, start + first + w), lookups

        return inner

    parts = ([words_of(0, whole, word_lookups)] if whole else []) + ([words_of(whole, 1, rest)] if rest else [])
    if kw * c.depth <= LOOKUPS:
        yield around_rows(), parts
        return
    if c.depth <= LOOKUPS:
        yield around_taps(), parts
        return
    per_chunk = max(n for n in range(1, whole + 1) if whole % n == 0 and n * word_lookups <= LOOKUPS)

    @contextmanager
    def around_words():
        with body.loop(kh, "kh") as i, body.loop(kw, "kw") as j, body.loop(whole // per_chunk, "c") as chunk:
            yield i, j, chunk * per_chunk

    yield around_words(), [words_of(0, per_chunk, word_lookups)]
    if rest:
        yield around_taps(), [words_of(whole, 1, rest)]


@contextmanager
def _nothing(value) -> Iterator:
    yield value


def _register_tile(body, c, tile_shape, tile_part, part, inner, chunk, table, weights, base, tile, load_x, straight) -> None:
    """Accumulate one chunk for one register tile and add it to the tile."""
    row, pixel, width, vectors = tile_part
    plane, g, first = part
    acc, slots = cleared(body, "uint8", width, vectors, c.lanes)
    for words in inner:
        with words(chunk) as ((kh, kw, word), lookups):
            _lookups(body, c, (row, pixel, width, vectors), (plane, g, kh, kw, word), lookups, acc, table, weights, base, load_x, straight)
    for i, j, slot in slots:
        at = tile_place(c, tile_shape, row, pixel + i, g, first + j)
        counts = tirx.Cast(f"{c.tile_dtype}x{c.lanes}", body.load(acc, slot, c.lanes))
        body.store(tile, at, body.load(tile, at, c.lanes) + counts, c.lanes)


def _lookups(body, c, tile_part, tap, lookups, acc, table, weights, base, load_x, straight) -> None:
    """Add the lookups of one word of every pixel."""
    row, pixel, width, vectors = tile_part
    plane, g, kh, kw, word = tap
    values = [load_x(row, pixel + i, plane, g, kh, kw, word) for i in range(width)]
    dtype = str(values[0].ty.dtype)
    wide = dtype if dtype in ("uint32", "uint64") else "uint32"
    words = body.local(wide, width, "x")
    for i, value in enumerate(values):
        body.store(words, i, value if dtype == wide else tirx.Cast(wide, value))
    at = base + ((kh * c.taps[1] + kw) * c.depth + word * (int(dtype[4:]) // 4)) * (vectors * c.lanes)

    def few(start, count):
        for n in range(count):
            for i in range(width):
                value = body.load(words, i)
                # the nibble times 16, the size of a row
                offset = tirx.shift_left(value, tirx.const(4, wide)) if n == 0 else tirx.shift_right(value, tirx.const(4 * n - 4, wide)) if n > 1 else value
                line = body.load(table, tirx.Cast("int32", tirx.bitwise_and(offset, tirx.const(240, wide))), 16)
                line = tirx.Shuffle([line] * (c.lanes // 16), list(range(c.lanes))) if c.lanes > 16 else line
                for j in range(vectors):
                    slot = (i * vectors + j) * c.lanes
                    counts = shuffle(line, body.load(weights, at + (start + n) * (vectors * c.lanes) + j * c.lanes, c.lanes), c.lanes)
                    body.store(acc, slot, body.load(acc, slot, c.lanes) + counts, c.lanes)

    whole, rest = divmod(lookups, straight)
    if whole:
        with body.loop(whole, "n") as n:
            few(n * straight, straight)
            for i in range(width):
                body.store(words, i, tirx.shift_right(body.load(words, i), tirx.const(4 * straight, wide)))
    if rest:
        few(whole * straight, rest)


def shuffle(line, index, lanes: int):
    """Look up the bytes of `index` in 16-byte tables, one for each 128 bits."""
    name = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b"}[lanes]
    return tirx.call_llvm_pure_intrin(f"uint8x{lanes}", name, line, index)
