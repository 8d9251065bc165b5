"""Popcount after carry-save adders, for single pixels whose weights are far away and so have to be packed: lanes = output channels, words of 64 bits.

Sixteen words of differing bits are summed by fifteen full adders into vectors of ones, twos, fours and eights, which stay in registers, and one of sixteens,
whose bits are counted::

    ones, twos, fours, eights, sixteens = ones, twos, fours, eights + (x ^ w) of 16 words      16 exclusive ors, 15 adders of 5 instructions
    counts += popcount(sixteens)                                                               9 instructions on AVX2

That is 6.3 instructions for 256 MAC where counting the bits of each word takes 10 (Harley and Seal's tree; W. Mula, N. Kurz, D. Lemire, "Faster population
counts using AVX2 instructions", 2018). The bits of ones to eights are counted once, at the end.

GMAC/s on AVX2 (Zen 3, one thread of a busy machine, one pixel, least of 20 runs in turns): popcount, and sums of 4, 8 and 16 words::

    4096 to 4096 channels      293  335  351  363
    9216 to 512                305  350  365  389
    3x3 512 to 1024            302  342  355  361
    2048 to 2048               306  315  325  329
    1024 to 1024               306  330  308  303
    512 to 512                 305  282  264  263
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.formulations.vertical import VerticalCounter
from bnncc.schedules.register_tile import Contraction, arrange_weights, tile_stride
from bnncc.schedules.statements import const, spread
from bnncc.targets import Variant

__all__ = ["carry_save", "carry_save_formulation"]

_WORDS = 16
"""Words of a sum."""

_LEAST_WORDS = 32
"""Of an output channel: the bits of ones to eights are counted besides."""

_TILE_BYTES = 16 * 1024


def carry_save(shape: BinaryShape, variant: Variant) -> Formulation | None:
    """Return the formulation where it pays, or None: for single pixels, and channels of many words."""
    words = shape.taps[0] * shape.taps[1] * shape.words
    pays = shape.pixels == 1 and words >= _LEAST_WORDS
    return carry_save_formulation(shape, variant) if pays else None


def carry_save_formulation(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> Formulation | None:
    """Return the formulation of any shape, whether it pays or not; None where words are not of 64 bits, or bits are counted by an instruction or one by one."""
    if shape.word != "uint64" or "pshufb" not in variant.instructions or "vpopcnt" in variant.instructions:
        return None
    lanes = variant.lanes(64)
    c = shape.contraction(
        lanes=lanes,
        acc_dtype="uint64",
        weight_dtype="uint64",
        tile_dtype="int32",
        vectors=1,
    )
    words = choose(choices, "carry-save words", _WORDS, (4, 8, 16))

    def fill(body, c, tile_shape, weights, tile, load_x):
        once = isinstance(c.planes, int) and c.planes == 1
        queue = body.local("uint64", c.tap_count, "queue")
        for row, pixel, _ in tile_shape.each(body):
            at = (row * tile_shape.row_pixels + pixel) * tile_stride(c)
            with body.loop(c.groups, "g") as g:
                to = at + g * c.group_outputs
                if not once:
                    with body.loop(c.group_vectors, "v") as v:
                        body.store(tile, to + v * lanes, const(0, "int32", lanes), lanes)
                with body.loop(c.planes, "plane") as plane:
                    with body.loop(c.taps[0], "kh") as kh, body.loop(c.taps[1], "kw") as kw, body.loop(c.depth, "k") as k:
                        body.store(queue, (kh * c.taps[1] + kw) * c.depth + k, load_x(row, pixel, plane, g, kh, kw, k))
                    with body.loop(c.group_vectors, "v", parallel=tile_shape.channel_parts > 1) as v:
                        first = (g * c.group_vectors + v) * c.tap_count * lanes
                        count = tirx.Cast(f"int32x{lanes}", _count(body, c, queue, weights, first, words))
                        body.store(tile, to + v * lanes, count if once else count + body.load(tile, to + v * lanes, lanes), lanes)

    name = f"carry-save popcount, {shape.word} words, vectors of {lanes} channels, sums of {words}"
    return Formulation(c, 1, lambda array: arrange_weights(c, array), fill, _TILE_BYTES, name)


def _count(body, c: Contraction, queue, weights, first, words: int):
    """Count the differing bits of a vector of channels; their weights are from `first` on."""
    lanes, planes = c.lanes, words.bit_length() - 1
    sums = body.local("uint64", (planes + 1) * lanes, "sums")
    for i in range(planes + 1):
        body.store(sums, i * lanes, const(0, "uint64", lanes), lanes)

    def add(start, count: int) -> None:
        counter = VerticalCounter(body, [*(body.bind(body.load(sums, i * lanes, lanes), "c") for i in range(planes)), const(0, "uint64", lanes)])
        for i in range(count):
            weight = body.load(weights, first + (start + i) * lanes, lanes)
            counter.add(body.bind(tirx.bitwise_xor(spread(body.load(queue, start + i), lanes), weight), "d"), 0)
        counter.finish()
        for i in range(planes):
            body.store(sums, i * lanes, counter.planes[i], lanes)
        body.store(sums, planes * lanes, body.load(sums, planes * lanes, lanes) + tirx.popcount(counter.planes[planes]), lanes)

    blocks, rest = divmod(c.tap_count, words)
    with body.loop(blocks, "block") as block:
        add(block * words, words)
    if rest:
        add(blocks * words, rest)
    total = body.load(sums, planes * lanes, lanes)
    for i in reversed(range(planes)):
        total = body.bind(total + total + tirx.popcount(body.load(sums, i * lanes, lanes)), "n")
    return total
