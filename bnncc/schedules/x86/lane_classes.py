"""Which lanes of a block of pixels are of which class of rows and columns, where thresholds differ at a border."""

from __future__ import annotations

import functools

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.count_limits import CountLimits
from bnncc.schedules.statements import const
from bnncc.schedules.x86.lane_blocks import LaneBlocks

__all__ = ["LaneClasses"]


class LaneClasses:
    """The lanes of each class, for every block, in the place of the constants that say of which class a row and a column is.

    Parameters
    ----------
    builder : Builder
    limits : CountLimits
    blocks : LaneBlocks
        The block of its `rest`, if it has one, comes behind its own.
    lanes : int
        Of a vector.
    """

    def __init__(self, builder: Builder, limits: CountLimits, blocks: LaneBlocks, lanes: int):
        self._builder, self._lanes, self._width = builder, lanes, lanes // 64
        self._counts = limits.border[0].shape[:2] if limits.border else None
        if limits.border:
            self._replace(limits.border[1], limits.border[2], blocks)

    def _replace(self, rows, columns, blocks: LaneBlocks) -> None:
        """Give the classes of rows and columns one buffer: [block][class] vectors."""
        every = [blocks, blocks.rest] if blocks.rest else [blocks]
        downs = [(part, min(i * part.rows, part.height - part.rows) + part.top) for part in every for i in range(part.down)]
        acrosses = [(part, min(i * part.width, part.breadth - part.width)) for part in every for i in range(part.across)]
        sizes = len(downs) * self._counts[0] * self._width, len(acrosses) * self._counts[1] * self._width

        def lanes_of(classes: np.ndarray, count: int, firsts: list, by_row: bool) -> np.ndarray:
            lane, found = np.arange(self._lanes), []
            for part, first in firsts:
                place = lane // part.pitch if by_row else lane % part.pitch
                used = (lane // part.pitch < part.rows) & (lane % part.pitch < part.width)
                found.append((classes[np.minimum(first + place, len(classes) - 1)][None] == np.arange(count)[:, None]) & used)
            return np.packbits(np.stack(found), axis=-1, bitorder="little").view(np.uint64).reshape(-1)

        def arrange(of_rows: np.ndarray, *of_columns: np.ndarray) -> np.ndarray:
            down = lanes_of(of_rows.reshape(-1), self._counts[0], downs, True)
            return np.concatenate([down, lanes_of((of_columns or (of_rows,))[0].reshape(-1), self._counts[1], acrosses, False)])

        others = () if columns is rows else (columns,)
        self._columns_at = sizes[0]
        self._buffer = self._builder.replace(rows, sum(sizes), "uint64", arrange, others)
        self._builder.read_at_compile_time(*others)

    def present(self, by, bx) -> tuple | None:
        """List the classes of rows and columns that lanes of a block are of: buffers of their numbers and lanes, and how many there are."""
        if self._counts is None:
            return None
        body, (rows, columns), width = self._builder.body, self._counts, self._width
        numbers, count = body.local("int32", rows * columns, "numbers"), body.local("int32", 1, "count")
        lanes = body.local("uint64", rows * columns * width, "lanes")
        body.store(count, 0, const(0, "int32"))
        with body.loop(rows, "i") as i, body.loop(columns, "j") as j:
            of_column = body.load(self._buffer, self._columns_at + (bx * columns + j) * width, width)
            found = body.bind(body.load(self._buffer, (by * rows + i) * width, width) & of_column, "found")
            place = body.load(count, 0)
            body.store(numbers, place, i * columns + j)
            body.store(lanes, place * width, found, width)
            words = body.local("uint64", width, "words")
            body.store(words, 0, found, width)
            some = functools.reduce(tirx.bitwise_or, [body.load(words, k) for k in range(width)])
            body.store(count, 0, place + tirx.Cast("int32", tirx.NE(some, const(0, "uint64"))))
        return numbers, lanes, count
