"""Popcount formulation for NEON, whose only popcount is that of bytes: trees of pairwise additions leave a vector of 8 output channels.

Words of the activations are spread over the lanes, words of 8 output channels lie side by side, in as many registers as a word has times 16 bits. Where
channels come in pairs of 64-bit words, a register holds a pair of one channel, and the activations need no spreading::

    x ^ w           4 or 8 registers
    cnt             a byte holds the count of 8 inputs
    addp, addp      neighbours are summed until one register is left: 2 bytes a channel
    uadalp          into 8 counts of 16 bits

Per 128 bits that is one exclusive or, one count, and one addition, as the two of the tree's last steps stand for four (or eight) of the first. Any sum fits:
a byte reaches 64, and a count 65535, beyond which another formulation is used. docs/ARM.md has the instructions and cycles of whole layers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from bnncc.schedules.choices import Choices, choose
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation, register_tiled
from bnncc.schedules.register_tile import Contraction, TileShape, blocks, tile_place
from bnncc.schedules.statements import Statements, const, reinterpret
from bnncc.targets import Variant

__all__ = ["lane_bits", "popcount_tree"]

_CHANNELS = 8

# 14 accumulators and the weights of one vector fill 18 of 32 registers; with an eighth pixel LLVM spills. A second word in the same straight line made LLVM
# hoist its loads and spill; words of one tap a pixel leave it nothing to hoist.
_WIDEST, _VECTORS = 7, 2

# An in-order processor needs loads early: pixels of a tile that leave registers for them, of pairs of words and of single ones.
_WIDEST_IN_ORDER = (4, 3)

_STRAIGHT_TAPS = 5
"""Taps of a row that are written without a loop, at most."""

_TILE_BYTES = 16 * 1024


def popcount_tree(shape: BinaryShape, variant: Variant, choices: Choices | None = None) -> Formulation | None:
    """Return the tree formulation, or None where the machine is another or counts pass 16 bits."""
    if "cnt" not in variant.instructions or 2 * shape.taps[0] * shape.taps[1] * shape.words * shape.word_bits >= 1 << 16:
        return None
    lane = f"uint{lane_bits(shape)}"
    in_pairs = shape.word_bits == 64 and shape.words % 2 == 0 and shape.taps[1] <= _STRAIGHT_TAPS
    vectors = 1 if in_pairs else min(_VECTORS, -(-shape.outputs // _CHANNELS))
    c = shape.contraction(
        lanes=_CHANNELS,
        acc_dtype="uint16",
        weight_dtype=lane,
        tile_dtype="uint16",
        vectors=vectors,
        step=_step,
        unrolled_steps=_WIDEST * _VECTORS * shape.taps[1] if shape.words == 1 else 1,
    )

    in_order = variant.core is not None and variant.core.in_order
    widest = choose(choices, "tree pixels", _WIDEST_IN_ORDER[not in_pairs] if in_order else _WIDEST, (2, 3, 4, 5, 6, 7))
    return _pairs(c, widest) if in_pairs else register_tiled(shape, c, widest, "popcount tree")


def lane_bits(shape: BinaryShape) -> int:
    """Return the bits of a word that are counted: where one word holds all inputs of a pixel, no more than they fill."""
    filled = shape.inputs if shape.words == 1 else shape.word_bits
    return next(bits for bits in (16, 32, 64) if bits >= min(filled, shape.word_bits))


def _step(acc, x, w):
    """Add the counts of differing bits of 8 words, one a channel."""
    differing = tirx.bitwise_xor(x, w)
    element, _, lanes = str(differing.ty.dtype).partition("x")
    size = int(element.removeprefix("uint")) // 8 * int(lanes)
    octets = reinterpret(f"uint8x{size}", differing)
    parts = [octets] if size == 16 else [tirx.Shuffle([octets], list(range(at, at + 16))) for at in range(0, size, 16)]
    return _add_counts(acc, parts)


def _add_counts(acc, parts: list):
    """Add the numbers of bits of some registers, which are those of 8 channels in order, to 8 counts."""
    counts = [tirx.popcount(part) for part in parts]
    while len(counts) > 1:
        pairs = zip(counts[::2], counts[1::2], strict=True)
        counts = [tirx.call_llvm_pure_intrin("uint8x16", "llvm.aarch64.neon.addp.v16i8", a, b) for a, b in pairs]
    return acc + tirx.call_llvm_pure_intrin("uint16x8", "llvm.aarch64.neon.uaddlp.v8i16.v16i8", counts[0])


def _pairs(c: Contraction, widest: int) -> Formulation:
    """Return the formulation that takes two words of 64 bits of a channel in a register."""

    def arrange(weights: np.ndarray) -> np.ndarray:
        kh, kw = c.taps
        padded = np.zeros((c.groups, c.group_vectors * _CHANNELS, kh, kw, c.depth), c.weight_dtype)
        padded[:, : c.group_outputs] = weights.reshape(c.groups, c.group_outputs, kh, kw, c.depth)
        # [group][vector][kh][pair of words][kw][channel][word]
        split = padded.reshape(c.groups, c.group_vectors, _CHANNELS, kh, kw, c.depth // 2, 2).transpose(0, 1, 3, 5, 4, 2, 6)
        return np.ascontiguousarray(split).reshape(-1)

    name = f"popcount tree, pairs of uint64 words, tile {widest} pixels x {_CHANNELS} channels"
    return Formulation(c, widest, arrange, _fill_pairs, _TILE_BYTES, name)


def _fill_pairs(body: Statements, c: Contraction, shape: TileShape, weights, tile, load_x: Callable) -> None:
    pairs, (kh, kw) = c.depth // 2, c.taps
    for g, vector, _ in blocks(body, c, shape):
        base = (g * c.group_vectors + vector) * c.tap_count * _CHANNELS
        for row, pixel, width in shape.each(body):
            acc = body.local("uint16", width * _CHANNELS, "acc")
            for i in range(width):
                body.store(acc, i * _CHANNELS, const(0, "uint16", _CHANNELS), _CHANNELS)
            with body.loop(c.planes, "plane") as plane, body.loop(kh, "kh") as y, body.loop(pairs, "k") as k:
                for x in range(kw):  # straight-line, so that neighbours share what they read
                    at = base + ((y * pairs + k) * kw + x) * (2 * _CHANNELS)
                    for i in range(width):
                        words = load_x(row, pixel + i, plane, g, y, x, 2 * k, 2)
                        differing = [tirx.bitwise_xor(words, body.load(weights, at + 2 * o, 2)) for o in range(_CHANNELS)]
                        parts = [reinterpret("uint8x16", bits) for bits in differing]
                        slot = i * _CHANNELS
                        body.store(acc, slot, _add_counts(body.load(acc, slot, _CHANNELS), parts), _CHANNELS)
            for i in range(width):
                at = tile_place(c, shape, row, pixel + i, g, vector)
                body.store(tile, at, body.load(acc, i * _CHANNELS, _CHANNELS), _CHANNELS)
