"""The loop nest that binary and float contractions share: a tile of pixels x output channels held in registers.

For every group of channels, every block of OT vectors of output channels and every tap (kh, kw, k)::

    acc[i, j] = step(acc[i, j], x[pixel i, tap], w[tap, vector j])        i < XT pixels, j < OT vectors, unrolled

Weights lie in the order in which they are read: [group][block][kh][kw][k][vector of the block][lane].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx

from bnncc.schedules.statements import Statements, const, quotient_and_remainder, spread

__all__ = [
    "Contraction",
    "LINE_BYTES",
    "TileShape",
    "arrange_weights",
    "blocks",
    "cleared",
    "fill_block",
    "fill_tile",
    "fill_tile_in_parts",
    "parts_tile_bytes",
    "pixel_tiles",
    "tile_place",
    "tile_stride",
    "usual_part_bytes",
]

_PART_BYTES = 12 * 1024
"""Weights that stay in the L1 cache beside the input and the tile."""

_NEAR_BYTES = 64 * 1024
"""A block of so many bytes comes from the L2 cache as fast as it is needed."""

LINE_BYTES = 64
"""Of a cache line."""

_FAR_BYTES = 2 * 1024 * 1024
_FAR_TILE_BYTES, _NEAR_TILE_BYTES = 128 * 1024, 16 * 1024

_LEAST_DEPTH = 32
"""Steps of a part that are worth the way of its sums through the tile."""


@dataclass(frozen=True)
class Contraction:
    """Shape of a contraction, and its step.

    Parameters
    ----------
    groups : int
    group_outputs : int
        Output channels of a group.
    taps : tuple of int
        Kernel height and width.
    depth : int
        Elements of the input that a tap reads (words, or channels), in one group.
    lanes : int
        Output channels of an accumulator vector.
    acc_dtype, weight_dtype, tile_dtype : str
        Element types of accumulator, weights and tile.
    vectors : int
        OT, accumulator vectors a pixel.
    step : callable, optional
        ``step(acc, x, w)``: x a scalar spread over the lanes. None where something else than `fill_tile` makes the sums.
    finish : callable, optional
        Accumulator vector to tile elements; None where they are the same.
    planes : int or expression
        How often the whole sum is made, over one plane of the input after the other.
    unrolled_steps : int
        Straight-line steps in one loop body, at most; more costs compile time and instruction cache and gains nothing.
    run : int
        So many neighbours of the input are loaded as one vector, of which each step takes a lane; 1 where steps load single elements.
    part_bytes : int, optional
        Weights of a block that `fill_tile_in_parts` takes at a time, 0 for the whole block; by default what `usual_part_bytes` says.
    ahead_bytes : int
        How far in front of the weights that are read cache lines are asked for; 0 where the processor's own prefetcher is enough.
    pixels_outside : bool
        Whether all blocks of channels are computed for a register tile of pixels, one after the other, before the next pixels; else the other way round.
    """

    groups: int
    group_outputs: int
    taps: tuple[int, int]
    depth: int
    lanes: int
    acc_dtype: str
    weight_dtype: str
    tile_dtype: str
    vectors: int
    step: Callable | None = None
    finish: Callable | None = None
    planes: object = 1
    unrolled_steps: int = 96
    run: int = 1
    part_bytes: int | None = None
    ahead_bytes: int = 0
    pixels_outside: bool = False

    @property
    def block_bytes(self) -> int:
        """Bytes of the weights of one step of a block."""
        return np.dtype(self.weight_dtype).itemsize * self.lanes * min(self.vectors, self.group_vectors)

    @property
    def group_vectors(self) -> int:
        """Vectors that the output channels of a group fill."""
        return -(-self.group_outputs // self.lanes)

    @property
    def tap_count(self) -> int:
        """Steps for one output."""
        return self.taps[0] * self.taps[1] * self.depth


def tile_stride(c: Contraction) -> int:
    """Return how many tile elements a pixel takes: the last vector of a group may reach beyond its channels."""
    return (c.groups - 1) * c.group_outputs + c.group_vectors * c.lanes


def tile_place(c: Contraction, shape: TileShape, row, pixel, g, vector):
    """Return where in the tile a vector of a group's channels stands, of a pixel of a row."""
    return (row * shape.row_pixels + pixel) * tile_stride(c) + g * c.group_outputs + vector * c.lanes


def arrange_weights(c: Contraction, weights: np.ndarray) -> np.ndarray:
    """Bring weights of shape (groups * group_outputs, KH, KW, depth) into the order of the loop nest, one-dimensional."""
    padded = np.zeros((c.groups, c.group_vectors * c.lanes, *c.taps, c.depth), c.weight_dtype)
    padded[:, : c.group_outputs] = weights.reshape(c.groups, c.group_outputs, *c.taps, c.depth)
    parts = []
    for group in padded:
        for start in range(0, c.group_vectors, c.vectors):
            block = group[start * c.lanes : (start + c.vectors) * c.lanes]
            parts.append(np.moveaxis(block, 0, -1).reshape(-1))
    return np.ascontiguousarray(np.concatenate(parts))


def pixel_tiles(pixels: int, widest: int) -> list[tuple[int, int, int]]:
    """Cut a row of pixels into register tiles of nearly equal width, without overlap.

    Returns
    -------
    list of (first pixel, count, width)
        `count` tiles of `width` pixels each; the second entry, where there is one, has tiles one pixel narrower.
    """
    tiles = -(-pixels // widest)
    narrow, wide = pixels // tiles, pixels % tiles
    runs = [(0, wide, narrow + 1)] if wide else []
    return [*runs, (wide * (narrow + 1), tiles - wide, narrow)]


@dataclass(frozen=True)
class TileShape:
    """What one pass over the weights computes: `rows` rows of register tiles, given as runs of (first pixel, count, width).

    Where `channel_parts` is more than 1 the blocks of output channels, so many, are shared out to threads.
    """

    rows: int
    runs: tuple[tuple[int, int, int], ...]
    channel_parts: int = 1

    @property
    def row_pixels(self) -> int:
        """Pixels of a row."""
        return sum(count * width for _, count, width in self.runs)

    @property
    def pixels(self) -> int:
        """Pixels of the tile."""
        return self.rows * self.row_pixels

    def within(self, pixel, lanes: int):
        """Return the number of a pixel; of vectors of `lanes` pixels, what is beyond the last pixel is the last again, with the same inputs and sums."""
        return tirx.min(pixel, self.pixels - 1) if self.pixels % lanes else pixel

    def place(self, pixel) -> tuple:
        """Return row, and pixel of the row, of the pixel with a number."""
        return quotient_and_remainder(pixel, self.row_pixels) if self.rows > 1 else (0, pixel)

    def each(self, body: Statements):
        """Open the loops over register tiles, run by run, and yield (row, first pixel, width)."""
        for first, count, width in self.runs:
            with body.loop(self.rows, "row") as row, body.loop(count, "r") as r:
                yield row, first + r * width, width


def fill_tile(body: Statements, c: Contraction, shape: TileShape, weights, tile, load_x: Callable) -> None:
    """Compute all channels of a tile of pixels.

    Parameters
    ----------
    shape : TileShape
    weights, tile : Buffer
        In the order of `arrange_weights`, and (rows, row pixels, tile_stride).
    load_x : callable
        ``load_x(row, pixel, plane, group, kh, kw, k)``: scalar expression of the input; a vector of so many neighbours as a last argument says.
    """
    vector_size = c.tap_count * c.lanes

    def fill(g, first, vectors, row, pixel, width) -> None:
        fill_block(body, c, shape, row, pixel, width, vectors, weights, (g * c.group_vectors + first) * vector_size, tile, g, first, load_x)

    if c.pixels_outside and shape.channel_parts == 1:
        for at in shape.each(body):
            for block in blocks(body, c, shape):
                fill(*block, *at)
        return
    for block in blocks(body, c, shape):
        for at in shape.each(body):
            fill(*block, *at)


def fill_tile_in_parts(body: Statements, c: Contraction, shape: TileShape, weights, tile, load_x: Callable) -> None:
    """Compute what `fill_tile` does, the weights of a block of channels part by part, each for all pixels of the tile while it is in the L1 cache.

    The sums of a register tile then go through the tile once a part. Where a block is small enough, or cannot be cut, this is `fill_tile`.
    """
    part_bytes = usual_part_bytes(c) if c.part_bytes is None else c.part_bytes
    depth = max((n for n in range(c.run, c.depth + 1, c.run) if c.depth % n == 0 and n * c.block_bytes <= part_bytes), default=0)
    alone = shape.rows * sum(count for _, count, _ in shape.runs) == 1
    overlaps = c.groups > 1 and c.group_outputs % c.lanes  # lanes beyond a group's channels would add to the next group
    if alone or depth < _LEAST_DEPTH or depth == c.tap_count or overlaps or c.planes != 1 or c.acc_dtype != c.tile_dtype:
        fill_tile(body, c, shape, weights, tile, load_x)
        return
    part = replace(c, taps=(1, 1), depth=depth)
    for g, first, vectors in blocks(body, c, shape):
        base = (g * c.group_vectors + first) * c.tap_count * c.lanes
        for row, pixel, width in shape.each(body):
            for i in range(width):
                for j in range(vectors):
                    at = tile_place(c, shape, row, pixel + i, g, first + j)
                    body.store(tile, at, const(0, c.tile_dtype, c.lanes), c.lanes)
        with body.loop(c.taps[0], "kh") as kh, body.loop(c.taps[1], "kw") as kw, body.loop(c.depth // depth, "part") as number:
            at = base + ((kh * c.taps[1] + kw) * c.depth + number * depth) * (vectors * c.lanes)

            def load(row, pixel, plane, g, _kh, _kw, k, *count, here=(kh, kw, number * depth)):
                return load_x(row, pixel, plane, g, here[0], here[1], here[2] + k, *count)

            for row, pixel, width in shape.each(body):
                fill_block(body, part, shape, row, pixel, width, vectors, weights, at, tile, g, first, load, adds=True)


def usual_part_bytes(c: Contraction) -> int:
    """Return how many bytes of weights of a block are taken at a time, 0 for the whole block where it comes from the L2 cache as fast as it is needed."""
    return 0 if c.tap_count * c.block_bytes <= _NEAR_BYTES else _PART_BYTES


def parts_tile_bytes(c: Contraction) -> int:
    """Return how large a tile for `fill_tile_in_parts` may become: weights beyond the L2 cache are fetched once for all its pixels."""
    size = np.dtype(c.weight_dtype).itemsize * c.tap_count * c.lanes * c.group_vectors * c.groups
    return _FAR_TILE_BYTES if size > _FAR_BYTES else _NEAR_TILE_BYTES


def blocks(body: Statements, c: Contraction, shape: TileShape):
    """Open the loops over groups and blocks of vectors and yield (group, first vector, vectors)."""
    whole, rest = divmod(c.group_vectors, c.vectors)
    with body.loop(c.groups, "g") as g:
        if whole:
            with body.loop(whole, "b", parallel=shape.channel_parts > 1) as b:
                yield g, b * c.vectors, c.vectors
        if rest:
            yield g, whole * c.vectors, rest


def cleared(body: Statements, dtype: str, pixels: int, vectors: int, lanes: int) -> tuple:
    """Return accumulators of a register tile, all 0, and their slots: (pixel, vector, first element)."""
    acc = body.local(dtype, pixels * vectors * lanes, "acc")
    slots = [(i, j, (i * vectors + j) * lanes) for i in range(pixels) for j in range(vectors)]
    for _, _, slot in slots:
        body.store(acc, slot, const(0, dtype, lanes), lanes)
    return acc, slots


def fill_block(
    body, c: Contraction, shape: TileShape, row, pixel, width: int, vectors: int, weights, base, tile, g, first, load_x, adds: bool = False
) -> None:
    """Compute one register tile: `width` pixels from `pixel` on of a row by `vectors` vectors of channels from `first` on; where it `adds`, to what the tile
    holds."""
    acc = body.local(c.acc_dtype, width * vectors * c.lanes, "acc")
    slots = [(i, j, (i * vectors + j) * c.lanes) for i in range(width) for j in range(vectors)]
    places = [tile_place(c, shape, row, pixel + i, g, first + j) for i, j, _ in slots]
    for (_, _, slot), place in zip(slots, places, strict=True):
        body.store(acc, slot, body.load(tile, place, c.lanes) if adds else const(0, c.acc_dtype, c.lanes), c.lanes)
    steps = width * vectors
    itemsize = np.dtype(c.weight_dtype).itemsize

    def taps(plane, kh, kw, k, run: int):
        xs = [load_x(row, pixel + i, plane, g, kh, kw, k, *([run] * (run > 1))) for i in range(width)]
        xs = [[x] if run == 1 else _lanes(body, x, run) for x in xs]
        for u in range(run):
            at = base + ((kh * c.taps[1] + kw) * c.depth + (k + u)) * (vectors * c.lanes)
            if c.ahead_bytes:  # what is asked for beyond the last weights costs nothing
                for line in range(0, vectors * c.lanes, LINE_BYTES // itemsize):
                    body.prefetch(weights, at + c.ahead_bytes // itemsize + line)
            for i, j, slot in slots:
                w = body.load(weights, at + j * c.lanes, c.lanes)
                body.store(acc, slot, c.step(body.load(acc, slot, c.lanes), spread(xs[i][u], c.lanes), w), c.lanes)

    runs, rest = divmod(c.depth, c.run)

    def tail(plane, kh, kw):
        for u in range(rest):
            taps(plane, kh, kw, runs * c.run + u, 1)

    with body.loop(c.planes, "plane") as plane, body.loop(c.taps[0], "kh") as kh:
        if steps * c.taps[1] * c.depth <= c.unrolled_steps:
            for kw in range(c.taps[1]):
                for k in range(runs):
                    taps(plane, kh, kw, k * c.run, c.run)
                tail(plane, kh, kw)
        else:
            with body.loop(c.taps[1], "kw") as kw:
                unroll = max(u for u in range(1, max(runs, 1) + 1) if max(runs, 1) % u == 0 and (u == 1 or u * c.run * steps <= c.unrolled_steps))
                with body.loop(runs // unroll, "k") as k:
                    for u in range(unroll):
                        taps(plane, kh, kw, (k * unroll + u) * c.run, c.run)
                tail(plane, kh, kw)
    for (_, _, slot), place in zip(slots, places, strict=True):
        sums = body.load(acc, slot, c.lanes)
        body.store(tile, place, c.finish(sums) if c.finish else sums, c.lanes)


def _lanes(body: Statements, x, count: int) -> list:
    """Load a vector once, and return its lanes."""
    x = body.bind(x, "x")
    return [tirx.Shuffle([x], [lane]) for lane in range(count)]
