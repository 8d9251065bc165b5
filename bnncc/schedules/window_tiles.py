"""Depthwise convolutions and maxima of floats on processors with many registers: a tile of neighbouring pixels by vectors of channels at a time.

Each vector of the input is loaded once a row of taps for all pixels that read it, and weights once for all pixels; a vector at a time loads both for every tap.
On NEON a 3x3 depthwise output of four channels takes 17 instructions so, 26 the other way; the limit are 9 of them.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.group import Tensor
from bnncc.schedules.register_tile import Contraction, TileShape, arrange_weights, blocks, tile_stride
from bnncc.schedules.staging import StagedRows
from bnncc.schedules.statements import Statements
from bnncc.schedules.taps import strides_of, tap_of

__all__ = ["takes_window_tiles", "write_depthwise", "write_maxima"]

_PIXELS, _VECTORS = 4, 2

_PIXELS_IN_ORDER = 3
"""LLVM moves loads far up for a processor that executes in order, and spills with more."""

_MOST_TAPS = 25
"""Written one after the other."""


def takes_window_tiles(builder: Builder, anchor: Tensor, taps: tuple[int, int]) -> bool:
    """Tell whether the processor has the registers, and channels fill its vectors."""
    few = taps[0] * taps[1] <= _MOST_TAPS
    return "fmla" in builder.variant.instructions and few and anchor.dtype == "float32" and anchor.shape[-1] % builder.lanes == 0


def _write(builder: Builder, anchor: Tensor, taps: tuple[int, int], columns: tuple[int, int], weights: Callable | None, first, step, at, stage) -> None:
    """Write the kernel.

    Parameters
    ----------
    columns : tuple of int
        Stride and dilation along a row.
    weights : callable, optional
        ``weights(contraction)``: the buffer of what each tap multiplies by.
    first, step : callable
        ``first(x, w)`` and ``step(acc, x, w)`` of the first tap and of the others, on vectors.
    at : callable
        ``at(place, kh, kw, channel)``: index of the input.
    """
    channels, lanes, x = anchor.shape[-1], builder.lanes, anchor.args[0]
    c = Contraction(
        groups=1,
        group_outputs=channels,
        taps=taps,
        depth=1,
        lanes=lanes,
        acc_dtype="float32",
        weight_dtype="float32",
        tile_dtype="float32",
        vectors=min(_VECTORS, channels // lanes),
        step=step,
    )
    buffer = weights(c) if weights else None

    def fill(body: Statements, c: Contraction, shape: TileShape, weights, tile, load_x: Callable) -> None:
        def block(row, pixel, width: int, start, vectors: int) -> None:
            slots = [(p, j) for p in range(width) for j in range(vectors)]
            acc = {slot: body.local("float32", lanes, "acc") for slot in slots}
            for i in range(taps[0]):
                seen: dict[int, list] = {}
                for j in range(taps[1]):
                    place = (start * taps[0] * taps[1] + (i * taps[1] + j) * vectors) * lanes
                    factors: list = [None] * vectors
                    if weights is not None:
                        factors = [body.keep(body.load(weights, place + v * lanes, lanes), "float32", lanes, "w") for v in range(vectors)]
                    for p in range(width):
                        column = p * columns[0] + j * columns[1]
                        if column not in seen:
                            values = (load_x(row, pixel + p, 0, 0, i, j, (start + v) * lanes, lanes) for v in range(vectors))
                            seen[column] = [body.keep(value, "float32", lanes, "x") for value in values]
                        for v, (x, w) in enumerate(zip(seen[column], factors, strict=True)):
                            total = acc[p, v]
                            body.store(total, 0, step(body.load(total, 0, lanes), x, w) if i or j else first(x, w), lanes)
            for p, v in slots:
                body.store(tile, (row * shape.row_pixels + pixel + p) * tile_stride(c) + (start + v) * lanes, body.load(acc[p, v], 0, lanes), lanes)

        if shape.channel_parts == 1:  # places at the border are bounded once for all channels
            for place in shape.each(body):
                for _, start, vectors in blocks(body, c, shape):
                    block(*place, start, vectors)
            return
        for _, start, vectors in blocks(body, c, shape):
            for place in shape.each(body):
                block(*place, start, vectors)

    def load_x(place, _plane, _group, kh, kw, channel, count):
        return builder.evaluator.value(x, at(place, kh, kw, channel), count)

    core = builder.variant.core
    widest = _PIXELS_IN_ORDER if core is not None and core.in_order else _PIXELS
    write_contraction(builder, anchor, c, buffer, widest, load_x, lambda value, index, lanes: value, fill, stage=stage)


def write_depthwise(builder: Builder, anchor: Tensor, stage: StagedRows | None) -> None:
    """Write ``nn.conv2d`` (NHWC, HWIO, no padding) of one input and one output channel a group, and its epilogue."""
    w = anchor.args[1]
    (_, stride), (_, dilation) = strides_of(anchor)

    def weights(c: Contraction):
        return builder.replace(w, c.tap_count * c.lanes * c.group_vectors, "float32", lambda array: arrange_weights(c, array.transpose(3, 0, 1, 2)))

    _write(builder, anchor, w.shape[:2], (stride, dilation), weights, lambda x, w: x * w, lambda acc, x, w: acc + x * w, tap_of(anchor), stage)


def write_maxima(builder: Builder, anchor: Tensor) -> None:
    """Write ``nn.max_pool2d`` (NHWC, no dilation) and its epilogue.

    Taps outside of the image are replaced by their nearest inside, which changes no maximum where every window meets the image.
    """
    attrs, lanes, (_, height, breadth, _) = anchor.attrs, builder.lanes, anchor.args[0].shape
    (ky, kx), (sy, sx) = (tuple(int(v) for v in pair) for pair in (attrs.pool_size, attrs.strides))
    top, left = int(attrs.padding[0]), int(attrs.padding[1])

    def inside(value, count: int, size: int, start: int, stride: int, taps: int):
        value = tirx.max(value, 0) if start else value
        return tirx.min(value, size - 1) if (count - 1) * stride - start + taps > size else value

    def at(place, kh, kw, channel):
        n, y, pixel = place
        row = inside(y * sy - top + kh, anchor.shape[1], height, top, sy, ky)
        return (n, row, inside(pixel * sx - left + kw, anchor.shape[2], breadth, left, sx, kx), channel)

    def larger(acc, x, _):
        return tirx.call_llvm_pure_intrin(f"float32x{lanes}", f"llvm.maxnum.v{lanes}f32", acc, x)

    _write(builder, anchor, (ky, kx), (sx, 1), None, lambda x, _: x, larger, at, None)
