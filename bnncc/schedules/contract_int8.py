"""Convolution and dense layer on small integers: pairs of int16 products summed into int32 (``pmaddwd``), lanes = output channels.

A pair of activations is one 32-bit load spread over the lanes; the weights of a pair lie side by side in each lane. So an instruction makes twice the products
of a float one, and sums of codes of up to 8 bits by weights of up to 8 bits are exact. The register tile is chosen as for floats; beside a fixed one of 4 pixels x
3 vectors, GMAC/s on AVX2 (Zen 3, shared machine, the least of many runs in turns): 128@28 71 (69), 256@14 68 (65), 512@7 62 (57), 1x1 512@14 64 (64).
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.contract_float import float_tile
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.register_tile import Contraction, arrange_weights, fill_tile_in_parts, parts_tile_bytes
from bnncc.schedules.staging import StagedRows, staged_rows
from bnncc.schedules.statements import const

__all__ = ["conv2d", "dense", "pair_weights"]

_MULTIPLY_ADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


def pair_weights(weights: np.ndarray) -> np.ndarray:
    """Join neighbours along the last axis as two int16 in one int32, the first in the low half; a 0 stands beside an odd one out.

    Parameters
    ----------
    weights : ndarray, int8 or int16, shape (..., depth)

    Returns
    -------
    ndarray, int32, shape (..., ceil(depth / 2))
    """
    padded = np.zeros((*weights.shape[:-1], weights.shape[-1] + weights.shape[-1] % 2), "<i2")
    padded[..., : weights.shape[-1]] = weights
    return padded.view("<i4").astype(np.int32)


def _multiply_add(lanes: int, paired: bool):
    """Return the step: one instruction where the machine multiplies pairs, else the two products apart."""

    def apart(acc, x, w):
        half = const(16, "int32", lanes)
        low = [tirx.shift_right(tirx.shift_left(v, half), half) for v in (x, w)]
        high = [tirx.shift_right(v, half) for v in (x, w)]
        return acc + low[0] * low[1] + high[0] * high[1]

    def step(acc, x, w):
        x, w = (tirx.call_intrin(f"int16x{2 * lanes}", "tirx.reinterpret", v) for v in (x, w))
        return acc + tirx.call_llvm_pure_intrin(f"int32x{lanes}", _MULTIPLY_ADD[lanes], x, w)

    return step if paired else apart


def _write(builder: Builder, anchor: Tensor, groups: int, taps: tuple[int, int], depth: int, at, stage: StagedRows | None = None) -> Kernel:
    """Write the kernel; ``at(place, group, kh, kw, k)`` is the index of element `k` of a tap."""
    x, w = anchor.args[:2]
    lanes = builder.lanes
    one_instruction = "pmaddwd" in builder.variant.instructions
    pixels, group_vectors = anchor.shape[-2], -(-w.shape[0] // groups // lanes)
    plain = (8, 3) if builder.variant.vector_registers >= 32 else (4, 3)
    widest, vectors = float_tile(builder, pixels, group_vectors) if one_instruction or pixels == 1 else plain
    c = Contraction(
        groups=groups,
        group_outputs=w.shape[0] // groups,
        taps=taps,
        depth=-(-depth // 2),
        lanes=lanes,
        acc_dtype="int32",
        weight_dtype="int32",
        tile_dtype="int32",
        vectors=vectors,
        step=_multiply_add(lanes, one_instruction),
        finish=lambda acc: acc,
    )
    size = c.tap_count * c.lanes * c.group_vectors * c.groups
    outputs = w.shape[0]
    weights = builder.replace(w, size, "int32", lambda array: arrange_weights(c, pair_weights(array.reshape(outputs, *taps, depth))))

    def load_x(place, _plane, g, kh, kw, k):
        first = at(place, g, kh, kw, 2 * k)
        if depth % 2 == 0 and lanes > 1:
            return tirx.call_intrin("int32", "tirx.reinterpret", builder.evaluator.value(x, first, 2))
        # the last element has no neighbour; whatever is read instead meets a weight of 0
        second = at(place, g, kh, kw, tirx.min(2 * k + 1, depth - 1))
        low, high = (tirx.Cast("int32", builder.evaluator.value(x, index, 1)) for index in (first, second))
        return tirx.bitwise_or(tirx.bitwise_and(low, tirx.const(0xFFFF, "int32")), tirx.shift_left(high, tirx.const(16, "int32")))

    write_contraction(
        builder, anchor, c, weights, widest, load_x, lambda value, index, lanes: value, fill_tile_in_parts, parts_tile_bytes(c), stage=stage
    )
    return builder.kernel(f"pairs of int16, tile {widest} pixels x {c.vectors} vectors of {lanes} channels")


def conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.conv2d`` (int16, no padding) and its epilogue."""
    w, attrs = anchor.args[1], anchor.attrs
    _, kh, kw, depth = w.shape
    groups = int(attrs.groups)
    (sy, sx), (dy, dx) = (tuple(int(v) for v in pair) for pair in (attrs.strides, attrs.dilation))
    channels = depth
    if groups == 1 and dx == 1:
        # the taps of a row are one run of numbers in memory
        kw, depth = 1, kw * depth

    def at(place, g, kh, kw, k):
        n, y, pixel = place
        if depth > channels:
            return (n, y * sy + kh * dy, pixel * sx, k)
        return (n, y * sy + kh * dy, pixel * sx + kw * dx, g * channels + k)

    return _write(builder, anchor, groups, (kh, kw), depth, at, staged_rows(builder, anchor.args[0], sy, (kh - 1) * dy + 1))


def dense(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.dense`` (int16) and its epilogue."""
    return _write(builder, anchor, 1, (1, 1), anchor.args[1].shape[1], lambda place, g, kh, kw, k: (*place, k))
