"""Pools, global average and depthwise convolution: one vector of channels at a time over its window."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.builder import PARALLEL_ELEMENTS, Builder
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.staging import staged_rows
from bnncc.schedules.statements import const, spread, vector_type
from bnncc.schedules.taps import strides_of, tap_of
from bnncc.schedules.window_tiles import takes_window_tiles, write_depthwise, write_maxima

__all__ = ["max_pool2d", "avg_pool2d", "packed_max_pool2d", "mean", "is_global", "depthwise_conv2d", "packed_depthwise_conv2d"]


_MOST_STRAIGHT = 16
"""Taps that may be written one after the other."""


def _pair(values) -> tuple[int, int]:
    first, second = (int(v) for v in values)
    return first, second


def _axis(builder: Builder, out, size: int, kernel: int, stride: int, dilation: int, before: int, name: str):
    """Open a loop over the taps of one axis that lie inside the image; yield a context of (tap position, count of taps)."""
    start = out * stride - before
    if dilation == 1:
        first = tirx.max(0 - start, 0)
        last = tirx.min(size - start, kernel)
        return builder.evaluator.loop(last - first, name, first), start, last - first
    # taps before and after the image, rounded to whole steps of the dilation
    first = tirx.floordiv(tirx.max(0 - start, 0) + (dilation - 1), dilation)
    last = tirx.min(tirx.floordiv(size - 1 - start, dilation) + 1, kernel)
    return builder.evaluator.loop(last - first, name, first), start, last - first


def _meets_image(node: Tensor) -> bool:
    """Tell whether every window, not dilated, has a tap inside the image."""
    sizes = (node.args[0].shape[1:3], node.shape[1:3], _pair(node.attrs.pool_size), _pair(node.attrs.strides), _pair(node.attrs.padding[:2]))
    axes = zip(*sizes, strict=True)
    reached = all(before < taps and (count - 1) * stride - before < size for size, count, taps, stride, before in axes)
    return reached and _pair(node.attrs.dilation) == (1, 1)


def _reduce(builder: Builder, node: Tensor, index: tuple, lanes: int, initial, combine, repeats: bool = False):
    """Combine the window of `node` at `index` into one vector; return it and the number of taps inside the image.

    Where `combine` is idempotent a tap may be taken twice (`repeats`), so that those outside of the image are replaced by their nearest inside.
    """
    x, attrs = node.args[0], node.attrs
    body = builder.body
    n, y, px, c = index
    (ky, kx), ((sy, sx), (dy, dx)) = _pair(attrs.pool_size), strides_of(node)
    top, left = int(attrs.padding[0]), int(attrs.padding[1])
    acc = body.local(x.dtype, lanes, "acc")
    body.store(acc, 0, initial, lanes)
    last_row, last_column = (node.shape[1] - 1) * sy + (ky - 1) * dy, (node.shape[2] - 1) * sx + (kx - 1) * dx
    reaches_out = any(int(p) for p in attrs.padding) or last_row >= x.shape[1] or last_column >= x.shape[2]
    can_be_straight = not reaches_out or (repeats and _meets_image(node))
    if can_be_straight and ky * kx <= _MOST_STRAIGHT and not builder.variant.is_scalar:
        # bitwise steps take less time than a loop around them, floats wait for memory either way
        usual = "loops" if x.dtype.startswith("float") else "straight"
        if builder.choices.choose("window", usual, ("loops", "straight")) == "straight":
            rows = [y * sy - top + kh * dy for kh in range(ky)]
            columns = [px * sx - left + kw * dx for kw in range(kx)]
            if reaches_out:
                rows = [tirx.max(tirx.min(row, x.shape[1] - 1), 0) for row in rows]
                columns = [tirx.max(tirx.min(column, x.shape[2] - 1), 0) for column in columns]
            for row in rows:
                for column in columns:
                    value = builder.evaluator.value(x, (n, row, column, c), lanes)
                    body.store(acc, 0, combine(body.load(acc, 0, lanes), value), lanes)
            return body.load(acc, 0, lanes), ky * kx
    if reaches_out:
        rows, row, row_count = _axis(builder, y, x.shape[1], ky, sy, dy, top, "kh")
        columns, column, column_count = _axis(builder, px, x.shape[2], kx, sx, dx, left, "kw")
        count = row_count * column_count
    else:
        rows, row, count = builder.evaluator.loop(ky, "kh"), y * sy, ky * kx
        columns, column = builder.evaluator.loop(kx, "kw"), px * sx
    with rows as kh, columns as kw:
        value = builder.evaluator.value(x, (n, row + kh * dy, column + kw * dx, c), lanes)
        body.store(acc, 0, combine(body.load(acc, 0, lanes), value), lanes)
    return body.load(acc, 0, lanes), count


def _nhwc(node: Tensor) -> None:
    if str(node.attrs.layout) != "NHWC":
        raise InternalError(f"{node.op} {node.name}: layout {node.attrs.layout}; kernels take NHWC")


def max_pool2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``nn.max_pool2d`` (NHWC) and its epilogue; padding takes no part."""
    _nhwc(anchor)
    dtype = anchor.dtype
    if takes_window_tiles(builder, anchor, _pair(anchor.attrs.pool_size)) and anchor.args[0] in builder.buffers and _meets_image(anchor):
        write_maxima(builder, anchor)
        return builder.kernel("maximum over windows")
    lowest = float("-inf") if dtype == "float32" else int(np.iinfo(dtype).min)

    def at(index, lanes):
        return _reduce(builder, anchor, index, lanes, const(lowest, dtype, lanes), tirx.max, repeats=True)[0]

    builder.evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel("maximum over windows")


def avg_pool2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``nn.avg_pool2d`` (NHWC) and its epilogue."""
    _nhwc(anchor)
    kernel = _pair(anchor.attrs.pool_size)

    def at(index, lanes):
        total, count = _reduce(builder, anchor, index, lanes, const(0.0, "float32", lanes), lambda a, b: a + b)
        if bool(anchor.attrs.count_include_pad):
            count = _count_with_padding(anchor, index, kernel)
        return tirx.div(total, spread(tirx.Cast("float32", count), lanes) if not isinstance(count, int) else const(float(count), "float32", lanes))

    builder.evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel("average over windows")


def _count_with_padding(anchor: Tensor, index: tuple, kernel: tuple[int, int]):
    """Count the taps inside the padded image: a window that `ceil_mode` lets reach beyond it is smaller."""
    counts = []
    for axis in (0, 1):
        stride, dilation = int(anchor.attrs.strides[axis]), int(anchor.attrs.dilation[axis])
        size = anchor.args[0].shape[axis + 1] + int(anchor.attrs.padding[axis]) + int(anchor.attrs.padding[axis + 2])
        if (anchor.shape[axis + 1] - 1) * stride + dilation * (kernel[axis] - 1) < size:
            counts.append(kernel[axis])
        else:
            counts.append(tirx.min(tirx.floordiv(size - 1 - index[axis + 1] * stride, dilation) + 1, kernel[axis]))
    return counts[0] * counts[1]


def packed_max_pool2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_max_pool2d`` and what follows it: AND of the flipped words of each window."""
    flip = anchor.args[1]

    def at(index, lanes):
        flipped = builder.evaluator.value(flip, (index[-1],), lanes)
        ones = const((1 << int(anchor.dtype[4:])) - 1, anchor.dtype, lanes)
        total, _ = _reduce(builder, anchor, index, lanes, ones, lambda a, b: tirx.bitwise_and(a, tirx.bitwise_xor(b, flipped)), True)
        return tirx.bitwise_xor(total, flipped)

    builder.evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel("and over windows of words")


def is_global(node: Tensor) -> bool:
    """Tell whether a mean is over height and width of an NHWC tensor."""
    rank = len(node.args[0].shape)
    axes = [] if node.attrs.axis is None else sorted(int(axis) % rank for axis in node.attrs.axis)
    return rank == 4 and axes == [1, 2]


def mean(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``mean`` over height and width and its epilogue.

    Raises
    ------
    InternalError
        Other axes.
    """
    x = anchor.args[0]
    if not is_global(anchor):
        raise InternalError(f"mean {anchor.name} over axes {anchor.attrs.axis} of {x.shape}; kernels take height and width of NHWC")
    body = builder.body

    def at(index, lanes):
        acc = body.local("float32", lanes, "acc")
        body.store(acc, 0, const(0.0, "float32", lanes), lanes)
        with builder.evaluator.loop(x.shape[1], "y") as y, builder.evaluator.loop(x.shape[2], "x") as px:
            value = builder.evaluator.value(x, (index[0], y, px, index[-1]), lanes)
            body.store(acc, 0, body.load(acc, 0, lanes) + value, lanes)
        return tirx.div(body.load(acc, 0, lanes), const(float(x.shape[1] * x.shape[2]), "float32", lanes))

    builder.evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel("average over the image")


def _write_rows(builder: Builder, anchor: Tensor, height: int) -> None:
    """Write the outputs at every place, row by row where the rows of the input are staged."""
    stage = staged_rows(builder, anchor, height)
    if stage is None:
        builder.write_everywhere()
        return
    parallel = not builder.variant.is_scalar and anchor.size >= PARALLEL_ELEMENTS
    with builder.lead_loops(anchor.shape[:2], parallel) as (n, y):
        stage.fill(n, y, 1)
        with builder.evaluator.loop(anchor.shape[2], "x") as px:
            builder.outputs.write(builder.evaluator, (n, y, px))


def _taps(builder: Builder, anchor: Tensor, kernel: tuple[int, int], index: tuple, lanes: int, acc_dtype: str, step):
    """Accumulate over all taps of an unpadded window; ``step(acc, source index, kh, kw)``."""
    body = builder.body
    tap = tap_of(anchor)
    acc = body.local(acc_dtype, lanes, "acc")
    body.store(acc, 0, const(0, acc_dtype, lanes), lanes)
    with builder.evaluator.loop(kernel[0], "kh") as kh, builder.evaluator.loop(kernel[1], "kw") as kw:
        body.store(acc, 0, step(body.load(acc, 0, lanes), tap(index[:3], kh, kw, index[3]), kh, kw), lanes)
    return body.load(acc, 0, lanes)


def depthwise_conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``nn.conv2d`` of one input and one output channel a group, lanes = channels."""
    x, w = anchor.args
    kh, kw = w.shape[:2]
    if takes_window_tiles(builder, anchor, (kh, kw)):
        write_depthwise(builder, anchor, staged_rows(builder, anchor, kh))
        return builder.kernel("float, depthwise")

    def at(index, lanes):
        def step(acc, source, i, j):
            weight = builder.evaluator.value(w, (i, j, 0, index[3]), lanes)
            return acc + builder.evaluator.value(x, source, lanes) * weight

        return _taps(builder, anchor, (kh, kw), index, lanes, "float32", step)

    builder.evaluator.define(anchor, at)
    _write_rows(builder, anchor, kh)
    return builder.kernel("float, depthwise")


def packed_depthwise_conv2d(builder: Builder, anchor: Tensor, border) -> Kernel:
    """Build ``bnn.packed_conv2d`` of one input and one output channel a group: the word of a channel holds one bit; lanes = channels."""
    x, w = anchor.args[:2]
    channels, kh, kw, _ = w.shape
    weights = builder.replace(w, w.size, w.dtype, lambda array: np.ascontiguousarray(array[..., 0].transpose(1, 2, 0)).reshape(-1))

    def at(index, lanes):
        wide = vector_type("int32", lanes)

        def step(acc, source, i, j):
            weight = builder.body.load(weights, (i * kw + j) * channels + index[3], lanes)
            differ = tirx.bitwise_xor(builder.evaluator.value(x, source, lanes), weight)
            return acc + tirx.Cast(wide, differ)

        count = _taps(builder, anchor, (kh, kw), index, lanes, "int32", step)
        value = const(kh * kw, "int32", lanes) - count * const(2, "int32", lanes)
        return value if border is None else value + border(index, lanes)

    builder.evaluator.define(anchor, at)
    _write_rows(builder, anchor, kh)
    return builder.kernel(f"depthwise, {x.dtype} words")
