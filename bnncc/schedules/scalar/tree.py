"""Tree formulation (Harley-Seal) for processors without vectors and without a popcount instruction: full adders join eight words before one is counted.

The words of a pixel stand in a queue; every output channel adds up its differences with the queue::

    ones, twos, fours, eights = carry-save sum of ones, twos, fours and 8 differences      7 full adders of 5 operations
    total += popcount(eights)                                                             once in 8 words

    count = 8 total + 4 popcount(fours) + 2 popcount(twos) + popcount(ones)

What is left of fewer than 8 words is counted word by word. The weights keep one bit a weight.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.register_tile import Contraction, TileShape, arrange_weights, tile_stride
from bnncc.schedules.scalar.counters import WORD, full_adder
from bnncc.schedules.statements import Statements, const

__all__ = ["tree"]

_CHUNK = 8
_CHUNKS = (4, 8, 16)
_PLANES = ("ones", "twos", "fours", "eights")


def _join(body: Statements, words: list, planes: list) -> object:
    """Add words (a power of two of them) to the planes; return the carry out of the last plane."""
    for i, plane in enumerate(planes):
        carries = []
        for a, b in zip(words[::2], words[1::2], strict=True):
            plane, carry = full_adder(body, a, b, plane)
            carries.append(carry)
        planes[i], words = plane, carries
    (left,) = words
    return left


def _count(body: Statements, c: Contraction, size: int, queue, weights, base):
    """Return the number of bits in which the queue and the weights from `base` on differ; `size` words, a power of two, are added at a time."""
    chunks, rest = divmod(c.tap_count, size)

    def differ(at):
        return tirx.bitwise_xor(body.load(queue, at), body.load(weights, base + at))

    total = body.local(WORD, 1, "total")
    body.store(total, 0, const(0, WORD))
    if chunks:
        kept = [body.local(WORD, 1, name) for name in _PLANES[: size.bit_length() - 1]]
        for plane in kept:
            body.store(plane, 0, const(0, WORD))
        with body.loop(chunks, "chunk") as chunk:
            planes = [body.load(plane, 0) for plane in kept]
            words = [body.bind(differ(chunk * size + i), "x") for i in range(size)]
            last = _join(body, words, planes)
            for plane, value in zip(kept, planes, strict=True):
                body.store(plane, 0, value)
            body.store(total, 0, body.load(total, 0) + tirx.popcount(last))
        value = tirx.shift_left(body.load(total, 0), tirx.const(len(kept), WORD))
        for i, plane in enumerate(kept):
            value = value + tirx.shift_left(tirx.popcount(body.load(plane, 0)), tirx.const(i, WORD))
        body.store(total, 0, value)
    if rest:
        with body.loop(rest, "rest") as i:
            body.store(total, 0, body.load(total, 0) + tirx.popcount(differ(chunks * size + i)))
    return tirx.Cast("int32", body.load(total, 0))


def _fill(body: Statements, c: Contraction, size: int, shape: TileShape, weights, tile, load_x) -> None:
    kh, kw = c.taps
    once = isinstance(c.planes, int) and c.planes == 1
    with body.loop(c.groups, "g") as g:
        for row, pixel, _ in shape.each(body):
            first = (row * shape.row_pixels + pixel) * tile_stride(c) + g * c.group_outputs
            if not once:
                with body.loop(c.group_outputs, "o") as o:
                    body.store(tile, first + o, const(0, "int32"))
            with body.loop(c.planes, "plane") as plane:
                queue = body.local(WORD, c.tap_count, "queue")
                with body.loop(kh, "kh") as i, body.loop(kw, "kw") as j, body.loop(c.depth, "k") as k:
                    body.store(queue, (i * kw + j) * c.depth + k, tirx.Cast(WORD, load_x(row, pixel, plane, g, i, j, k)))
                with body.loop(c.group_outputs, "o") as o:
                    count = _count(body, c, size, queue, weights, (g * c.group_outputs + o) * c.tap_count)
                    body.store(tile, first + o, count if once else count + body.load(tile, first + o))


def tree(shape: BinaryShape, choices: Choices | None = None) -> Formulation:
    """Return the tree formulation of any binary contraction; words are of 32 bits at most."""
    c = shape.contraction(
        lanes=1,
        acc_dtype=WORD,
        weight_dtype=WORD,
        tile_dtype="int32",
        vectors=1,
        step=lambda acc, x, w: acc + tirx.popcount(tirx.bitwise_xor(x, w)),
        finish=lambda acc: tirx.Cast("int32", acc),
    )
    size = choose(choices, "tree chunk", _CHUNK, [size for size in _CHUNKS if size <= max(c.tap_count, _CHUNK)])

    def fill(body, c, tile_shape, weights, tile, load_x):
        _fill(body, c, size, tile_shape, weights, tile, load_x)

    return Formulation(c, 1, lambda array: arrange_weights(c, array), fill, 0, f"carry-save tree of {size} words of 32 bits")
