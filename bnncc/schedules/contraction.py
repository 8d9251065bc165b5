"""Groups whose anchor is a contraction: tiles of pixels, all channels of a tile into a local buffer, then the epilogue over the tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnncc.errors import InternalError
from bnncc.schedules.builder import Builder
from bnncc.schedules.group import Tensor
from bnncc.schedules.register_tile import Contraction, fill_tile, pixel_tiles, tile_stride

__all__ = ["write_contraction"]

_L1_BYTES = 32 * 1024


def write_contraction(builder: Builder, anchor: Tensor, c: Contraction, weights, widest: int, load_x: Callable, read: Callable) -> None:
    """Write a whole kernel around a contraction.

    Parameters
    ----------
    anchor : Tensor
        Shape (..., row of pixels, channels).
    weights : Buffer
    widest : int
        Pixels of a tile at most.
    load_x : callable
        ``load_x(lead, pixel, plane, group, kh, kw, k)``: scalar of the input.
    read : callable
        ``read(value, index, lanes)``: tile elements to the anchor's value (back-transform, border).

    Raises
    ------
    InternalError
        The outputs of the group are not of the anchor's shape.
    """
    if builder.outputs.shape != anchor.shape:
        raise InternalError(f"the outputs of a group around {anchor.op} have shape {builder.outputs.shape}, the operator {anchor.shape}")
    body, evaluator = builder.body, builder.evaluator
    stride = tile_stride(c)
    with builder.lead_loops(anchor.shape[:-2]) as lead:
        for start, count, width in pixel_tiles(anchor.shape[-2], widest):
            repeats = _repeats(c, count, width, stride)
            with evaluator.loop(count // repeats, "t") as t:
                first = start + t * (width * repeats)
                tile = body.local(c.tile_dtype, width * repeats * stride, "tile")
                fill_tile(body, c, width, repeats, weights, tile, lambda i, *tap, first=first: load_x(lead, first + i, *tap))
                with evaluator.loop(width * repeats, "p") as p:
                    evaluator.define(anchor, lambda index, lanes, p=p, tile=tile: read(body.load(tile, p * stride + index[-1], lanes), index, lanes))
                    builder.outputs.write(evaluator, (*lead, first + p))


def _repeats(c: Contraction, count: int, width: int, stride: int) -> int:
    """Return how many register tiles share a block of weights: one where all weights stay in the L1 cache anyway, else a divisor of `count`."""
    if c.tap_count * stride * np.dtype(c.weight_dtype).itemsize <= _L1_BYTES // 2:
        return 1
    tile = width * stride * np.dtype(c.tile_dtype).itemsize
    return max(r for r in range(1, count + 1) if count % r == 0 and (r == 1 or r * tile <= _L1_BYTES // 2))
