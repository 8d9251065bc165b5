"""Groups whose anchor is a contraction: tiles of pixels, all channels of a tile into a local buffer, then the epilogue over the tile."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.builder import PARALLEL_ELEMENTS, Builder
from bnncc.schedules.formulations.limit_planes import Answers
from bnncc.schedules.group import Tensor
from bnncc.schedules.register_tile import Contraction, TileShape, fill_tile, pixel_tiles, tile_stride
from bnncc.schedules.staging import StagedRows

__all__ = ["write_contraction"]

_L1_BYTES = 32 * 1024

_TILE_BYTES = (8 * 1024, 16 * 1024, 32 * 1024, 64 * 1024, 128 * 1024, 256 * 1024)

_MANY_TILES = 9
"""So many are shared evenly enough, be they an odd number."""


def write_contraction(
    builder: Builder,
    anchor: Tensor,
    c: Contraction,
    weights,
    widest: int,
    load_x: Callable,
    read: Callable,
    fill: Callable = fill_tile,
    tile_bytes: int = _L1_BYTES // 2,
    planes: tuple[int, int] = (1, 1),
    stage: StagedRows | None = None,
    pixel_lanes: int = 0,
    answers: Answers | None = None,
    joins_rows: bool = False,
) -> None:
    """Write a whole kernel around a contraction.

    Parameters
    ----------
    anchor : Tensor
        Shape (..., row of pixels, channels).
    weights : Buffer
    widest : int
        Pixels of a register tile at most.
    load_x : callable
        ``load_x(place, plane, group, kh, kw, k)``: scalar of the input for the output at `place` (the index without the channels); a vector where a last
        argument says how many.
    read : callable
        ``read(value, index, lanes)``: tile elements to the anchor's value (back-transform, border).
    fill : callable
        Computes a tile; `fill_tile` or one of its signature.
    tile_bytes : int
        How large the local buffer may become.
    planes : tuple of int
        Planes of input and weights whose sums are kept apart: those of the input are rows of the tile, those of the weights follow one another as channels.
        Where there is more than one in all, `read` gets a list, the planes of the weights within each of the input.
    stage : StagedRows, optional
        Of an input that the group computes.
    pixel_lanes : int
        Where lanes of a vector are pixels, how many; `widest` is then the most pixels of a tile.
    answers : Answers, optional
        Where `fill` stores the outputs itself; there is no tile then, and nothing is read.
    joins_rows : bool
        Whether register tiles go over the ends of rows: the pixels of an image are one row then. Not with a `stage`.

    Raises
    ------
    InternalError
        The outputs of the group are not of the anchor's shape, or the anchor reads a tensor that the group computes.
    """
    if stage is None and anchor.args[0] not in builder.buffers:
        raise InternalError(f"{anchor.op} {anchor.name} reads {anchor.args[0].name}, which its own group computes; it must be a parameter")
    if builder.outputs.shape[:-1] != anchor.shape[:-1]:  # channels may be repeated
        raise InternalError(f"the outputs of a group around {anchor.op} have shape {builder.outputs.shape}, the operator {anchor.shape}")
    body, evaluator = builder.body, builder.evaluator
    stride, inputs = tile_stride(c), planes[0]
    tile_bytes = tile_bytes // inputs
    if builder.variant.is_scalar:
        tile_bytes = 0  # no cache that a larger tile would serve, and RAM is short
    elif not pixel_lanes and (stage is not None or not _weights_stay(c)):
        tile_bytes = builder.choices.choose("tile bytes", tile_bytes, _TILE_BYTES)
    rows, row_pixels = anchor.shape[-3] if len(anchor.shape) > 2 else 1, anchor.shape[-2]
    if joins_rows:
        rows, row_pixels = 1, rows * row_pixels
    staged = None if stage is None else stage.most_rows
    if pixel_lanes:
        tiles = _filled_tiles(rows, row_pixels, widest, pixel_lanes, inputs, rows if staged is None else staged)
    else:
        tiles = _tiles(c, rows, row_pixels, widest, stride, tile_bytes, staged)
    split = _split(builder, anchor, c, rows, tiles, planes)
    for shape, starts in tiles:
        extents = math.prod(anchor.shape[:-3]), rows // shape.rows, starts[1]
        # the outermost loop of several tiles is shared out; where this shape has a single tile, one thread makes it
        axis = next((i for i, extent in enumerate(extents) if extent > 1), 1) if split == "tiles" else None
        parts = c.group_vectors // c.vectors if split == "channels" else 1
        shape = replace(shape, channel_parts=parts)
        with builder.lead_loops(anchor.shape[:-3], axis == 0) as outer, evaluator.loop(extents[1], "y", parallel=axis == 1) as y, ExitStack() as inner:
            if stage is not None:
                stage.fill(outer[0], y * shape.rows, shape.rows)
            t = inner.enter_context(evaluator.loop(extents[2], "t", parallel=axis == 2))
            first = starts[0] + t * shape.row_pixels

            def place(row, pixel, outer=outer, y=y, first=first, shape=shape):
                if joins_rows:
                    return (*outer, tirx.floordiv(first + pixel, anchor.shape[-2]), tirx.floormod(first + pixel, anchor.shape[-2]))
                return (*outer, y * shape.rows + row, first + pixel) if len(anchor.shape) > 2 else (first + pixel,)

            if answers is not None:
                there = replace(answers, place=place)
                fill(body, c, shape, weights, there, lambda row, pixel, *tap, place=place: load_x(place(row, pixel), *tap))
                continue
            tile = body.local(c.tile_dtype, inputs * shape.pixels * stride, "tile")
            if inputs == 1:
                fill(body, c, shape, weights, tile, lambda row, pixel, *tap, place=place: load_x(place(row, pixel), *tap))
            else:
                taller = replace(shape, rows=inputs * shape.rows)
                fill(body, c, taller, weights, tile, lambda row, pixel, _, *tap, place=place: load_x(place(row // inputs, pixel), row % inputs, *tap))
            with (
                # the same share of the channels as in `fill`: a thread finds in its tile what it has computed itself
                evaluator.loop(parts, "part", parallel=parts > 1) as part,
                evaluator.loop(shape.rows, "row") as row,
            ):

                def enter(p, tile=tile, row=row, shape=shape, place=place):
                    at = [
                        ((row * inputs + i) * shape.row_pixels + p) * stride + j * anchor.shape[-1] for i in range(inputs) for j in range(planes[1])
                    ]

                    def value(index, lanes):
                        sums = [body.load(tile, first + index[-1], lanes) for first in at]
                        return read(sums if len(sums) > 1 else sums[0], index, lanes)

                    evaluator.define(anchor, value)
                    return place(row, p)

                builder.outputs.write_row(evaluator, shape.row_pixels, enter, part, parts)


def _split(builder: Builder, anchor: Tensor, c: Contraction, rows: int, tiles: list, planes: tuple[int, int]) -> str | None:
    """Return what threads share: "tiles", or the "channels" of a single tile, or None where neither can be cut or the whole is not worth it."""
    if builder.variant.is_scalar or anchor.size * c.tap_count // c.lanes < PARALLEL_ELEMENTS // 4:
        return None
    if math.prod(anchor.shape[:-3]) > 1 or any(rows // shape.rows > 1 or starts[1] > 1 for shape, starts in tiles):
        return "tiles"
    parts = c.group_vectors // c.vectors
    whole = c.groups == 1 and planes == (1, 1) and parts > 1 and c.group_outputs == parts * c.vectors * c.lanes
    # where channels are repeated, a part of the outputs is not made of the same part of the channels
    return "channels" if whole and builder.outputs.shape == anchor.shape and builder.outputs.splits(parts) else None


def _weights_stay(c: Contraction) -> bool:
    """Tell whether all weights stay in the L1 cache while pixels pass."""
    return c.tap_count * tile_stride(c) * np.dtype(c.weight_dtype).itemsize <= _L1_BYTES // 2


def _filled_tiles(rows: int, pixels: int, most: int, lanes: int, inputs: int, staged: int) -> list[tuple[TileShape, tuple[int, int]]]:
    """Cut an image into tiles of whole rows that fill vectors of `lanes` pixels best, of at most `most` pixels; `inputs` planes of them stand side by side.

    Returns
    -------
    list
        As `_tiles`.
    """

    def filled(width: int) -> float:
        return inputs * width / (-(-inputs * width // lanes) * lanes)

    high = [n for n in range(1, min(rows, staged) + 1) if rows % n == 0 and inputs * n * pixels <= most]
    if high:
        best = max(high, key=lambda n: (filled(n * pixels), n))
        return [(TileShape(best, ((0, 1, pixels),)), (0, 1))]
    return [(TileShape(1, ((0, 1, width),)), (start, count)) for start, count, width in pixel_tiles(pixels, max(1, most // inputs))]


def _tiles(
    c: Contraction, rows: int, pixels: int, widest: int, stride: int, tile_bytes: int, staged: int | None
) -> list[tuple[TileShape, tuple[int, int]]]:
    """Cut an image into tiles: list of (shape, (first pixel of a row, tiles a row)).

    Where all weights stay in the L1 cache a tile is one register tile, of those formulations that have any. Otherwise, and where the input of up to `staged`
    rows is staged, it is as large as `tile_bytes` lets it be, so that each block of weights is fetched, and each row staged, as rarely as can be: several whole
    rows, or several register tiles of a row.
    """
    runs = pixel_tiles(pixels, widest)
    if staged is None and _weights_stay(c) and (widest > 1 or not tile_bytes):
        return [(TileShape(1, ((0, 1, width),)), (start, count)) for start, count, width in runs]
    pixel_bytes = stride * np.dtype(c.tile_dtype).itemsize

    def largest(count: int, item_bytes: int) -> int:
        fitting = [n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * item_bytes <= tile_bytes)]
        best = fitting[-1]
        # two threads share 14 tiles evenly, 7 they do not: half as large a tile fetches the weights twice as often, which costs less
        even = [n for n in fitting if 2 * n >= best and count // n % 2 == 0]
        shared = count // best > 1 or c.group_vectors <= c.vectors  # of a single tile blocks of channels are shared, if it has any
        return even[-1] if even and shared and count // best < _MANY_TILES else best

    if pixels * pixel_bytes <= tile_bytes:
        high = largest(rows, pixels * pixel_bytes)
        if staged is not None:
            high = max(n for n in range(1, min(high, staged) + 1) if rows % n == 0)
        return [(TileShape(high, tuple(runs)), (0, 1))]
    tiles = []
    for start, count, width in runs:
        repeats = largest(count, width * pixel_bytes)
        tiles.append((TileShape(1, ((0, repeats, width),)), (start, count // repeats)))
    return tiles
