"""Rows of an input that a contraction's own group computes: padded, or brought from NCHW to NHWC, a few rows at a time.

A padded copy of a whole feature map costs its memory and a pass over it. Instead a kernel keeps the rows that its next rows of outputs read in a local buffer::

    rows of outputs                                        y .. y + r
    rows of the input, padded, in a local buffer           y * stride .. (y + r - 1) * stride + reach

Neighbouring blocks read `reach - stride` rows in common, which are staged for each: blocks are as high as the tile's cache budget allows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import vector_cuts
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.movement import Padding, padding_of
from bnncc.schedules.statements import Statements, const
from bnncc.schedules.taps import strides_of

__all__ = ["PROLOGUE_OPS", "StagedRows", "count_planes", "fits_stage", "staged_rows"]

PROLOGUE_OPS = frozenset({"relax.nn.pad", "relax.bnn.pad", "relax.bnn.packed_pad", "relax.permute_dims"})
"""Operators that may stand in front of a contraction that reads an image."""

_STAGE_BYTES = 24 * 1024
"""What staged rows may take of the L1 cache, which holds the tile and a block of weights too."""

_INTERLEAVED = 4
"""Channels of an image in NCHW that are brought to NHWC in vectors of several pixels, at most."""


def fits_stage(shape: tuple[int, ...], itemsize: int, reach: int) -> bool:
    """Tell whether `reach` rows of an image (N, H, W, C) are few enough bytes to be staged for each row of outputs."""
    return reach * shape[2] * shape[3] * itemsize <= _STAGE_BYTES


def staged_rows(builder: Builder, node: Tensor, height: int) -> StagedRows | None:
    """Return the stage of the input of a convolution or pool of `height` rows of taps, None where nothing of `PROLOGUE_OPS` makes it."""
    (stride, _), (dilation, _) = strides_of(node)
    return StagedRows(builder, node.args[0], stride, (height - 1) * dilation + 1) if node.args[0].op in PROLOGUE_OPS else None


class StagedRows:
    """A local buffer for some rows of `x` (N, H, W, C).

    Parameters
    ----------
    builder : Builder
    x : Tensor
        A chain of `PROLOGUE_OPS` on a parameter.
    stride, reach : int
        Rows of `x` from one row of outputs to the next, and rows that one row of outputs reads.
    """

    def __init__(self, builder: Builder, x: Tensor, stride: int, reach: int):
        self.builder, self.x, self.stride, self.reach = builder, x, stride, reach
        row_bytes = x.shape[2] * x.shape[3] * np.dtype(x.dtype).itemsize
        stage_bytes = builder.choices.choose("stage bytes", _STAGE_BYTES, (_STAGE_BYTES // 2, _STAGE_BYTES, 2 * _STAGE_BYTES))
        self.most_rows = max(1, (stage_bytes // row_bytes - reach) // stride + 1)
        """Rows of outputs whose input may be staged at once."""
        self.filled: list[Callable] = []
        """Called as ``f(buffer, elements)`` after each filling."""

    def fill(self, image, first, rows: int) -> None:
        """Stage what the outputs of `rows` rows from row `first` on of an image read, and let reads of `x` go there."""
        builder, x = self.builder, self.x
        body, evaluator = builder.body, builder.evaluator
        count, (width, channels), start = (rows - 1) * self.stride + self.reach, x.shape[2:], first * self.stride
        buffer = body.local(x.dtype, count * width * channels, "rows")
        with evaluator.loop(count, "row") as row:

            def put(pixel, channel, value, lanes):
                body.store(buffer, (row * width + pixel) * channels + channel, value, lanes)

            self._row(x, (image, start + row), put)
        for action in self.filled:
            action(buffer, count * width * channels)
        evaluator.define(x, lambda index, lanes: body.load(buffer, linear_index((count, width, channels), (index[1] - start, *index[2:])), lanes))

    def _row(self, x: Tensor, place: tuple, put: Callable) -> None:
        """Write one row of `x`; ``put(pixel, channel, value, lanes)`` stores a part of it."""
        builder, (width, channels) = self.builder, x.shape[2:]
        evaluator = builder.evaluator
        if x in builder.buffers:  # channels of neighbouring pixels are neighbours
            self._run(width * channels, lambda at, lanes: put(0, at, evaluator.value(x, (*place, 0, at), lanes), lanes))
        elif x.op == "relax.permute_dims":
            self._transposed(x, place, put)
        else:
            self._padded(x, place, put)

    def _run(self, size: int, write: Callable) -> None:
        """Write `size` elements, whole vectors in a loop."""
        evaluator, lanes = self.builder.evaluator, self.builder.lanes
        if size >= lanes:
            with evaluator.loop(size // lanes, "i") as i:
                write(i * lanes, lanes)
        for at, width in vector_cuts([size % lanes], lanes) if size % lanes else ():
            write(size // lanes * lanes + at, width)

    def _transposed(self, x: Tensor, place: tuple, put: Callable) -> None:
        evaluator, axes, lanes = self.builder.evaluator, [int(a) for a in x.attrs.axes], self.builder.lanes
        width, channels = x.shape[2:]

        def source(pixel, channel, lanes=1):
            index = dict(zip(axes, (*place, pixel, channel), strict=True))
            return evaluator.value(x.args[0], tuple(index[a] for a in range(4)), lanes)

        # a few channels, whose pixels are neighbours in memory, are interleaved vector by vector
        whole = width // lanes if axes[2] == 3 and lanes > 1 and channels <= _INTERLEAVED else 0
        if whole:
            order = [c * lanes + i for i in range(lanes) for c in range(channels)]
            with evaluator.loop(whole, "pixels") as block:
                put(block * lanes, 0, tirx.Shuffle([source(block * lanes, c, lanes) for c in range(channels)], order), lanes * channels)
        if width > whole * lanes:
            with evaluator.loop(channels, "c") as c, evaluator.loop(width - whole * lanes, "pixel", whole * lanes) as pixel:
                put(pixel, c, source(pixel, c), 1)

    def _padded(self, x: Tensor, place: tuple, put: Callable) -> None:
        pad: Padding = padding_of(self.builder, x)
        source, (image, row) = x.args[0], place
        height, width, channels = source.shape[1:]
        lanes = self.builder.lanes

        def columns(first: int, count: int, value: Callable) -> None:
            if not count:
                return
            with self.builder.evaluator.loop(count, "column") as column:
                for at, cut in vector_cuts([channels], lanes):
                    put(first + column, at, value(first + column, at, cut), cut)

        right = x.shape[2] - pad.left - width
        if pad.mode == "constant":
            inside = tirx.all(row >= pad.top, row < pad.top + height)
            with self.builder.body.when(inside):
                self._row(source, (image, row - pad.top), lambda pixel, channel, value, cut: put(pad.left + pixel, channel, value, cut))
            with self.builder.body.when(tirx.Not(inside)):
                columns(pad.left, width, lambda _, at, cut: pad.fill(at, cut))
            beside = lambda _, at, cut: pad.fill(at, cut)  # noqa: E731
        else:
            nearest = pad.source(row, pad.top, height)
            self._row(source, (image, nearest), lambda pixel, channel, value, cut: put(pad.left + pixel, channel, value, cut))
            beside = lambda column, at, cut: self._element(source, (image, nearest, pad.source(column, pad.left, width), at), cut)  # noqa: E731
        columns(0, pad.left, beside)
        columns(pad.left + width, right, beside)

    def _element(self, x: Tensor, index: tuple, lanes: int):
        """Return `lanes` channels of a pixel of what is padded."""
        evaluator = self.builder.evaluator
        if x in self.builder.buffers:
            return evaluator.value(x, index, lanes)
        axes = [int(a) for a in x.attrs.axes]
        parts = []
        for lane in range(lanes):
            at = dict(zip(axes, (*index[:3], index[3] + lane), strict=True))
            parts.append(evaluator.value(x.args[0], tuple(at[a] for a in range(4)), 1))
        return tirx.Shuffle(parts, list(range(lanes))) if lanes > 1 else parts[0]

    def watch_planes(self):
        """Return how many planes of codes -1, 0, +1 have to be summed for what is staged."""
        body = self.builder.body
        planes = body.local("int32", 1, "planes")
        self.filled.append(lambda buffer, size: count_planes(body, buffer, size, self.x.shape[3] // 2, planes))
        return body.load(planes, 0)


def count_planes(body: Statements, buffer, size: int, words: int, planes) -> None:
    """Store in `planes` how many of the two planes have to be summed, of `words` words each: one where both are equal in all `size` words of `buffer`."""
    dtype = str(buffer.ty.dtype)
    differ = body.local(dtype, 1, "differ")
    body.store(differ, 0, const(0, dtype))
    with body.loop(size // (2 * words), "pixel") as pixel, body.loop(words, "word") as word:
        p, q = (body.load(buffer, pixel * (2 * words) + plane * words + word) for plane in (0, 1))
        body.store(differ, 0, tirx.bitwise_or(body.load(differ, 0), tirx.bitwise_xor(p, q)))
    body.store(planes, 0, tirx.Select(tirx.NE(body.load(differ, 0), const(0, dtype)), tirx.const(2, "int32"), tirx.const(1, "int32")))
