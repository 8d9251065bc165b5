"""Real activations by signs: the float contraction, with weights that are stored as bits.

Where pixels and output channels are many, sums of four inputs under all signs are made once and looked up by the bits (`sign_sums`); for a few pixels these
sums are in a register and permuted (`x86/permuted_sums`), on AVX2 and AVX-512. Elsewhere bits become -1.0 or +1.0 where they are used: a byte holds the signs
of eight successive taps of one output channel; widened to the 32 bits of a lane it is shifted until the bit of a tap is the sign of a float32, and what stands
below is the exponent of 1. Three operations a vector of weights pay in one of three places:

- few weights are expanded once, when the kernel starts;
- more of them block by block of output channels, for as many pixels as a tile in the L2 cache holds;
- where a few pixels share them (a dense layer), in a register: less is then read than of float weights, which is what such a layer waits for.

10^9 multiply-accumulates a second (`benchmarks/sign_weights.py`; AMD EPYC, Zen 3, AVX2, one thread, fastest of 40 runs in turns; two fused operations of
eight lanes a cycle are 51):

=====================  ===========  =============  =====  =========
shape                  onnxruntime  float weights  signs  how
=====================  ===========  =============  =====  =========
3 to 64 at 56, 3x3     21.0         31.6           39.3   sums
16 at 32               28.7         45.0           45.5   memory
64 at 28               42.8         49.0           80.6   sums
128 at 28              40.2         44.4           98.0   sums
256 at 14              42.2         41.7           113.8  sums
512 at 7               35.4         36.7           110.6  sums
dense 1024 x 1024      10.0         12.7           37.1   permuted
dense 4096 x 1000      4.1          4.9            41.5   permuted
=====================  ===========  =============  =====  =========
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm import tirx

from bnncc.ops.pack import PackAttrs, pack_reference, unpack_reference
from bnncc.schedules.builder import Builder
from bnncc.schedules.code_sums import FOUR
from bnncc.schedules.contract_codes import write_code_sums
from bnncc.schedules.contract_float import float_contraction, float_tile
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.register_tile import Contraction, TileShape, arrange_weights, blocks, cleared, fill_block, fill_tile, tile_place, tile_stride
from bnncc.schedules.sign_sums import MOST_PIXELS, arrange_quads, sign_sums, sums_pay
from bnncc.schedules.statements import Statements, const, reinterpret, spread, vector_type
from bnncc.schedules.taps import conv_reads
from bnncc.schedules.x86.permuted_sums import PermutedSums

__all__ = ["sign_conv2d", "sign_dense"]

_TAPS = 8
"""Taps whose signs lie in one element."""

_FEW_WEIGHTS = 16 * 1024
"""Bytes of float weights that are expanded once."""

_TILE_BYTES = 64 * 1024

_LARGE_BLOCK = 24 * 1024
"""Bytes of a block's float weights above which one row of taps is expanded after the other, so that they stay in the L1 cache beside the input."""

_FEW_PIXELS = 16
"""Up to so many the expansion of weights to memory is not earned back."""


def _words(body: Statements, weights, at, lanes: int, vectors: int) -> list:
    """Load the signs of eight taps of all channels of a block, one to a lane of 32 bits."""
    wide = vector_type("uint32", lanes)
    return [body.keep(tirx.Cast(wide, body.load(weights, at + j * lanes, lanes)), "uint32", lanes, "word") for j in range(vectors)]


def _sign(word, tap: int, lanes: int):
    """Return -1.0 or +1.0 in every lane of a vector."""
    bit = tirx.bitwise_and(tirx.shift_left(word, const(31 - tap, "uint32", lanes)), const(1 << 31, "uint32", lanes))
    one = tirx.bitwise_or(bit, const(0x3F800000, "uint32", lanes))
    return reinterpret(f"float32x{lanes}", one)


def _signed(x, word, tap: int):
    """Return a scalar with a sign: without vectors there may be no multiplication of floats either."""
    return tirx.Select(tirx.EQ(tirx.bitwise_and(word, const(1 << tap, "uint32")), const(0, "uint32")), x, const(0.0, "float32") - x)


def _each_byte(body: Statements, c: Contraction, depth: int):
    """Open the loops over the taps of a kernel and yield (kh, kw, byte, taps in it)."""
    whole, rest = divmod(depth, _TAPS)
    with body.loop(c.taps[0], "kh") as kh, body.loop(c.taps[1], "kw") as kw:
        if whole:
            with body.loop(whole, "k") as k:
                yield kh, kw, k, _TAPS
        if rest:
            yield kh, kw, whole, rest


def _expand(body: Statements, c: Contraction, packed: Contraction, weights, at, real, vectors: int, to) -> None:
    """Write the signs of a block of output channels, from element `at` of the weights on, as float32 to `real`, from element `to` on."""
    lanes = c.lanes
    for kh, kw, k, count in _each_byte(body, c, c.depth):
        words = _words(body, weights, at + ((kh * c.taps[1] + kw) * packed.depth + k) * (vectors * lanes), lanes, vectors)
        for tap in range(count):
            for j, word in enumerate(words):
                place = to + ((kh * c.taps[1] + kw) * c.depth + k * _TAPS + tap) * (vectors * lanes) + j * lanes
                body.store(real, place, _sign(word, tap, lanes), lanes)


def _expanded(body: Statements, c: Contraction, packed: Contraction, weights):
    """Return the weights to read and what fills a tile with them, where they are expanded into memory."""
    block = c.tap_count * c.lanes
    size = block * c.group_vectors * c.groups
    if 4 * size <= _FEW_WEIGHTS:
        real = body.local("float32", size, "signs")
        for g, first, vectors in blocks(body, c, TileShape(1, ())):
            number = g * c.group_vectors + first
            _expand(body, c, packed, weights, number * packed.tap_count * c.lanes, real, vectors, number * block)
        return real, fill_tile
    widest = min(c.vectors, c.group_vectors)
    by_row = 4 * block * widest > _LARGE_BLOCK and c.groups == 1  # lanes beyond a group's channels would add to the next group
    part = replace(c, taps=(1, c.taps[1])) if by_row else c
    real = body.local("float32", part.tap_count * c.lanes * widest, "signs")

    def fill(body, c, shape, weights, tile, load_x):
        if by_row:
            with body.loop(shape.pixels * tile_stride(c) // c.lanes, "clear") as i:
                body.store(tile, i * c.lanes, const(0.0, "float32", c.lanes), c.lanes)
        for g, first, vectors in blocks(body, c, shape):
            base = (g * c.group_vectors + first) * packed.tap_count * c.lanes
            with body.loop(c.taps[0] if by_row else 1, "kh") as kh:
                _expand(body, part, packed, weights, base + kh * part.taps[1] * packed.depth * (vectors * c.lanes), real, vectors, 0)
                for row, pixel, width in shape.each(body):
                    fill_block(
                        body, part, shape, row, pixel, width, vectors, real, 0, tile, g, first,
                        lambda r, p, plane, g, row_tap, *tap, kh=kh: load_x(r, p, plane, g, kh + row_tap, *tap), by_row,
                    )  # fmt: skip

    return weights, fill


def _in_registers(c: Contraction, packed: Contraction):
    """Return what fills a tile with weights that are expanded where they are multiplied."""
    lanes = c.lanes

    def block(body, shape, row, pixel, width, vectors, weights, base, tile, g, first, load_x) -> None:
        acc, slots = cleared(body, "float32", width, vectors, lanes)
        for kh, kw, k, count in _each_byte(body, c, c.depth):
            words = _words(body, weights, base + ((kh * c.taps[1] + kw) * packed.depth + k) * (vectors * lanes), lanes, vectors)
            for tap in range(count):
                signs = [body.keep(_sign(word, tap, lanes), "float32", lanes, "sign") for word in words] if lanes > 1 else []
                for i in range(width):
                    x = body.keep(spread(load_x(row, pixel + i, 0, g, kh, kw, k * _TAPS + tap), lanes), "float32", lanes, "x")
                    for j in range(vectors):
                        slot = (i * vectors + j) * lanes
                        before = body.load(acc, slot, lanes)
                        body.store(acc, slot, c.step(before, x, signs[j]) if signs else before + _signed(x, words[j], tap), lanes)
        for i, j, slot in slots:
            at = tile_place(c, shape, row, pixel + i, g, first + j)
            body.store(tile, at, body.load(acc, slot, lanes), lanes)

    def fill(body, _, shape, weights, tile, load_x):
        for g, first, vectors in blocks(body, packed, shape):
            base = (g * packed.group_vectors + first) * packed.tap_count * lanes
            for row, pixel, width in shape.each(body):
                block(body, shape, row, pixel, width, vectors, weights, base, tile, g, first, load_x)

    return fill


def _write_sums(builder: Builder, anchor: Tensor, c: Contraction, load_x: Callable, minus: Callable) -> Kernel:
    """Write the kernel that looks sums up; ``minus(words)``: where the weights of shape (outputs, KH, KW, depth) are -1."""
    cut = sign_sums(builder, c)
    weights = builder.replace(anchor.args[1], cut.size, "uint8", lambda words: arrange_quads(cut, minus(words)))
    write_contraction(
        builder, anchor, c, weights, MOST_PIXELS, load_x, lambda value, index, lanes: value, cut.fill, pixel_lanes=builder.lanes
    )
    return builder.kernel(f"sums of {FOUR} floats by signs, {cut.vectors} vectors of {builder.lanes} pixels")


def _write(builder: Builder, anchor: Tensor, groups: int, taps: tuple[int, int], depth: int, channels: int, at) -> Kernel:
    """Write the kernel: `channels` inputs lie in a word row of the weights, `depth` elements in a tap; ``at(place, g, kh, kw, k)`` is the index of one."""
    x, w = anchor.args[:2]
    outputs, bits = w.shape[0], int(w.dtype[4:])
    pixels = math.prod(anchor.shape[:-1])
    in_registers = pixels <= _FEW_PIXELS or builder.variant.is_scalar  # where RAM is short, too

    def load_x(place, _plane, g, kh, kw, k, count=1):
        return builder.evaluator.value(x, at(place, g, kh, kw, k), count)

    def signs_of(words: np.ndarray) -> np.ndarray:
        return unpack_reference(PackAttrs(channels, 1, bits), words).reshape(outputs, *taps, depth)

    whole = float_contraction(builder, groups, outputs, taps, depth, -(-outputs // groups // builder.lanes))
    if not in_registers and sums_pay(whole):
        return _write_sums(builder, anchor, whole, load_x, lambda words: signs_of(words) < 0)
    widest, vectors = float_tile(builder, anchor.shape[-2], -(-outputs // groups // builder.lanes))
    if in_registers and pixels > 1:
        widest, vectors = (12, 2) if builder.variant.vector_registers >= 32 else (5, 2)
    c = float_contraction(builder, groups, outputs, taps, depth, vectors)
    if in_registers and PermutedSums.fits(c, builder.variant, pixels):
        permuted = PermutedSums(c)
        weights = builder.replace(w, permuted.size, "uint32", lambda words: permuted.arrange(signs_of(words)))
        write_contraction(builder, anchor, permuted.c, weights, widest, load_x, lambda value, index, lanes: value, permuted.fill, _TILE_BYTES)
        return builder.kernel(f"permuted sums of {FOUR} floats by signs, tile {widest} pixels x {vectors} vectors of {c.lanes} channels")
    packed = replace(c, depth=-(-depth // _TAPS), weight_dtype="uint8")

    def arrange(words: np.ndarray) -> np.ndarray:
        return arrange_weights(packed, pack_reference(PackAttrs(depth, 1, _TAPS), signs_of(words)))

    weights = builder.replace(w, packed.tap_count * c.lanes * c.group_vectors * groups, "uint8", arrange)

    shape, fill = (packed, _in_registers(c, packed)) if in_registers else (c, None)
    if fill is None:
        weights, fill = _expanded(builder.body, c, packed, weights)
    write_contraction(builder, anchor, shape, weights, widest, load_x, lambda value, index, lanes: value, fill, _TILE_BYTES)
    where = "registers" if in_registers else "memory"
    return builder.kernel(f"float by signs, expanded in {where}, tile {widest} pixels x {vectors} vectors of {c.lanes} channels")


def sign_conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.sign_conv2d`` and its epilogue."""
    x, w = anchor.args
    groups = int(anchor.attrs.groups)
    channels = x.shape[3] // groups
    taps, depth, at = conv_reads(anchor, w.shape[1:3], channels)
    write = _write if x.dtype == "float32" else write_code_sums
    return write(builder, anchor, groups, taps, depth, channels, at)


def sign_dense(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.sign_dense`` and its epilogue."""
    depth = anchor.args[0].shape[1]
    write = _write if anchor.args[0].dtype == "float32" else write_code_sums
    return write(builder, anchor, 1, (1, 1), depth, depth, lambda place, g, kh, kw, k: (*place, k))
