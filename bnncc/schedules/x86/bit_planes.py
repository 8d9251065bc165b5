"""Words of channels to bit planes of pixels, and back: transposition of 64 x 64 bits, one matrix in each 64-bit lane of a vector.

Six steps exchange blocks of 32, 16, ... 1 bits between rows as far apart. Three of them are done at a time, on 8 rows in registers.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.schedules.statements import Statements, const

__all__ = ["transpose_bits"]

_WORD = 64


def transpose_bits(body: Statements, row: Callable, store: Callable, lanes: int) -> None:
    """Transpose matrices of 64 x 64 bits side by side.

    Parameters
    ----------
    row : callable
        ``row(i)``: row i of all matrices, ``uint64x<lanes>``.
    store : callable
        ``store(i, vector)`` takes row i of the results: bit j of it is bit i of row j.
    lanes : int
    """
    half = body.local("uint64", _WORD * lanes, "half")
    with body.loop(8, "first") as first:
        rows = _exchanged(body, [body.bind(row(first + 8 * i), "row") for i in range(8)], 8, lanes)
        for i, vector in enumerate(rows):
            body.store(half, (first + 8 * i) * lanes, vector, lanes)
    with body.loop(8, "block") as block:
        rows = _exchanged(body, [body.bind(body.load(half, (block * 8 + i) * lanes, lanes), "row") for i in range(8)], 1, lanes)
        for i, vector in enumerate(rows):
            store(block * 8 + i, vector)


def _exchanged(body: Statements, rows: list, apart: int, lanes: int) -> list:
    """Exchange blocks of bits between 8 rows, so many rows `apart`."""
    for step in (4, 2, 1):
        size = step * apart
        shift = const(size, "uint64", lanes)
        mask = const(sum(1 << bit for bit in range(_WORD) if not bit & size), "uint64", lanes)
        for low in (i for i in range(8) if not i & step):
            a, b = rows[low], rows[low + step]
            t = body.bind(tirx.bitwise_and(tirx.bitwise_xor(tirx.shift_right(a, shift), b), mask), "t")
            rows[low + step] = body.bind(tirx.bitwise_xor(b, t), "b")
            rows[low] = body.bind(tirx.bitwise_xor(a, tirx.shift_left(t, shift)), "a")
    return rows
