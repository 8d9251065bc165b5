"""Float convolution and matrix product: direct, NHWC, a register tile of fused multiply-adds, lanes = output channels.

Measured on AVX2 (Zen 3, 3.2 GHz, one thread), where two fused operations of eight lanes a cycle bound it at 51 GMAC/s: 7x7 with stride 2, 3 to 64 channels at
224 x 224, 44.7 (87 %); 3x3, 64 channels at 54 x 54, 48.5 (94 %); 1x1, 64 to 128 channels at 28 x 28 with shortcut, thresholds and packing, 37 (72 %).

Where a block of weights is beyond the L2 cache's reach it is taken part by part for all pixels of a tile, GMAC/s beside onnxruntime, the least of many runs in
turns (`benchmarks/float_layers.py`):

===========  ==========  ===========  =============  ===============  ===============
layer        128@28 3x3  256@14 3x3   512@7 3x3      1x1 512 at 14    1x1 1024 at 7
===========  ==========  ===========  =============  ===============  ===============
whole block  42.6        44.1         12.9           44.0             28.9
in parts     47.0        44.9         37.9           45.3             38.0
onnxruntime  40.4        42.9         38.5           38.7             37.6
===========  ==========  ===========  =============  ===============  ===============

32 channels at 16 x 16 reach 44 in tiles of 6 pixels x 2 vectors and 37 in 4 x 3, which leave a lone vector; 3 to 32 at 32 x 32 reach 32 and 25.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bnncc.schedules.builder import Builder
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.neon.float_tile import RUN, neon_tile, neon_tiles
from bnncc.schedules.register_tile import Contraction, arrange_weights, fill_tile_in_parts, parts_tile_bytes, pixel_tiles, usual_part_bytes
from bnncc.schedules.staging import StagedRows, staged_rows
from bnncc.schedules.taps import conv_reads, strides_of
from bnncc.schedules.windows import depthwise_conv2d

__all__ = ["conv2d", "float_contraction", "float_tile", "matmul"]

_REGISTERS = ((4, 3), (6, 2), (3, 4), (12, 1))
_MANY_REGISTERS = ((8, 3), (12, 2), (6, 4), (24, 1))
"""Register tiles, pixels x vectors, of 16 and of 32 registers: what is left holds the operands. The first of equals is taken."""

_TRIED = ((2, 4), (2, 5), (2, 6), (3, 3), (4, 2), (5, 2), (8, 1), (7, 2), (1, 8), (1, 12))
_MANY_TRIED = ((4, 4), (4, 5), (4, 6), (5, 5), (8, 2), (14, 2), (7, 4), (7, 3), (16, 1), (1, 16))
"""What tuning tries besides."""

_UNROLLED = (24, 48, 96, 192)
_PARTS = (0, 4 * 1024, 8 * 1024, 12 * 1024, 24 * 1024)
_AHEAD = (0, 512, 1024, 2048, 4096)


def float_contraction(builder: Builder, groups: int, outputs: int, taps: tuple[int, int], depth: int, vectors: int) -> Contraction:
    """Return the contraction of real numbers; `depth` elements a tap, `vectors` of the register tile."""
    return Contraction(
        groups=groups,
        group_outputs=outputs // groups,
        taps=taps,
        depth=depth,
        lanes=builder.lanes,
        acc_dtype="float32",
        weight_dtype="float32",
        tile_dtype="float32",
        vectors=vectors,
        # left to LLVM to contract into one fused operation where the target has it
        step=lambda acc, x, w: acc + x * w,
        run=RUN if "fmla" in builder.variant.instructions else 1,
    )


def float_tile(builder: Builder, row_pixels: int, group_vectors: int) -> tuple[int, int]:
    """Return pixels and vectors of the register tile for rows of `row_pixels` and groups of so many vectors.

    The one that takes least time on a processor of two fused operations and two loads a cycle, four cycles after each other where one needs the other.
    A single pixel waits for its weights; threads share its blocks of channels if they are of one size.
    """
    if row_pixels == 1:
        single = next((vectors for vectors in range(8, 3, -1) if group_vectors % vectors == 0), 8)
        return builder.choices.choose("tile", (1, single), [(1, n) for n in (1, 2, 3, 4, 6, 8, 12) if n <= group_vectors])
    if "fmla" in builder.variant.instructions:
        core = builder.variant.core
        return builder.choices.choose("tile", neon_tile(core, row_pixels, group_vectors), neon_tiles(core))

    def cycles(tile: tuple[int, int]) -> float:
        whole, rest = divmod(group_vectors, tile[1])
        blocks = [tile[1]] * whole + [rest] * bool(rest)
        return sum(
            count * max(width * vectors / 2, (width + vectors) / 2, 4)
            for _, count, width in pixel_tiles(row_pixels, tile[0])
            for vectors in blocks
        )

    tiles, tried = (_MANY_REGISTERS, _MANY_TRIED) if builder.variant.vector_registers >= 32 else (_REGISTERS, _TRIED)
    return builder.choices.choose("tile", min(tiles, key=cycles), (*tiles, *tried))


def _tuned(builder: Builder, c: Contraction, pixels: int) -> Contraction:
    """Ask for what leaves the order of each sum, and so its rounding, as it is; `pixels` of the outputs."""
    ask = builder.choices.choose
    c = replace(c, unrolled_steps=ask("unrolled steps", c.unrolled_steps, _UNROLLED))
    if builder.variant.is_scalar:
        return c
    if c.tap_count * c.block_bytes > min(_PARTS[1:]) and pixels > 1:
        c = replace(c, part_bytes=ask("weights part", usual_part_bytes(c), _PARTS))
    c = replace(c, ahead_bytes=ask("weights ahead", 0, _AHEAD))
    if c.group_vectors > c.vectors and pixels > 1 and not c.part_bytes:
        c = replace(c, pixels_outside=ask("loop order", "channels outside", ("channels outside", "pixels outside")) == "pixels outside")
    return c


def _write(builder: Builder, anchor: Tensor, c: Contraction, widest: int, order, at, stage: StagedRows | None = None, joins_rows: bool = False) -> Kernel:
    x, w = anchor.args[:2]
    c = _tuned(builder, c, math.prod(anchor.shape[:-1]))
    size = c.tap_count * c.lanes * c.group_vectors * c.groups
    weights = builder.replace(w, size, "float32", lambda array: arrange_weights(c, order(array)))

    def load_x(place, _plane, g, kh, kw, k, count=1):
        return builder.evaluator.value(x, at(place, g, kh, kw, k), count)

    write_contraction(
        builder, anchor, c, weights, widest, load_x, lambda value, index, lanes: value, fill_tile_in_parts, parts_tile_bytes(c), stage=stage,
        joins_rows=joins_rows,
    )  # fmt: skip
    return builder.kernel(f"float, tile {widest} pixels x {c.vectors} vectors of {c.lanes} channels")


def conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``nn.conv2d`` (NHWC, HWIO, no padding) and its epilogue."""
    x, w = anchor.args
    attrs = anchor.attrs
    kh, kw, depth, outputs = w.shape
    if depth == 1 and outputs == int(attrs.groups) > 1:
        return depthwise_conv2d(builder, anchor)
    stage = staged_rows(builder, anchor, kh)
    joins_rows, row_pixels = False, anchor.shape[2]
    if kh == kw == 1 and strides_of(anchor)[0] == (1, 1) and stage is None and anchor.shape[1] > 1 and not builder.variant.is_scalar:
        # its pixels follow one another in memory, from row to row
        joins_rows = builder.choices.choose("rows", "apart", ("apart", "joined")) == "joined"
        row_pixels *= anchor.shape[1] if joins_rows else 1
    widest, vectors = float_tile(builder, row_pixels, -(-outputs // int(attrs.groups) // builder.lanes))
    taps, depth, at = conv_reads(anchor, (kh, kw), depth)
    c = float_contraction(builder, int(attrs.groups), outputs, taps, depth, vectors)
    return _write(builder, anchor, c, widest, lambda array: array.transpose(3, 0, 1, 2), at, stage, joins_rows)


def matmul(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``matmul`` by constant weights of shape (K, M) and its epilogue."""
    depth, outputs = anchor.args[1].shape
    widest, vectors = float_tile(builder, anchor.shape[0], -(-outputs // builder.lanes))
    c = float_contraction(builder, 1, outputs, (1, 1), depth, vectors)
    return _write(builder, anchor, c, widest, lambda array: array.T, lambda place, g, kh, kw, k: (*place, k))
