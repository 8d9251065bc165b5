"""Convolution and dense layer on small integers, summed into int32, lanes = output channels.

Where the machine multiplies pairs (``pmaddwd``) and the codes are int16, a pair of activations is one 32-bit load spread over the lanes, and the weights of a
pair lie side by side in each lane: an instruction makes twice the products of a float one. Elsewhere products are made one by one, of weights in the fewest
bytes that hold them: vectors widen both sides in the multiplication itself (``smlal``), a processor without vectors reads bytes as they are.

The register tile of vectors is chosen as for floats; beside a fixed one of 4 pixels x 3 vectors, GMAC/s on AVX2 (Zen 3, shared machine, the least of many runs
in turns): 128@28 71 (69), 256@14 68 (65), 512@7 62 (57), 1x1 512@14 64 (64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.contract_float import float_tile
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.register_tile import Contraction, arrange_weights, fill_tile_in_parts, parts_tile_bytes
from bnncc.schedules.staging import StagedRows, staged_rows
from bnncc.schedules.statements import reinterpret, vector_type
from bnncc.schedules.taps import conv_reads

__all__ = ["conv2d", "dense", "pair_weights"]

_MULTIPLY_ADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}

_UNROLLED_SCALARS = 16
"""Straight-line products of a loop body on a processor without vectors: more make code, of which there is little room, and no speed."""


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


@dataclass(frozen=True)
class _Products:
    """How products are made.

    Parameters
    ----------
    each : int
        Elements of the input that a step multiplies.
    weight_dtype : str
    prepare : callable
        Weights of shape (..., depth) to those that the kernel reads, of shape (..., ceil(depth / each)).
    step : callable
        ``step(acc, x, w)``.
    name : str
    """

    each: int
    weight_dtype: str
    prepare: Callable[[np.ndarray], np.ndarray]
    step: Callable
    name: str


def _products(builder: Builder, anchor: Tensor) -> _Products:
    lanes, (x, w) = builder.lanes, anchor.args[:2]

    def pairs(acc, x, w):
        x, w = (reinterpret(f"int16x{2 * lanes}", v) for v in (x, w))
        return acc + tirx.call_llvm_pure_intrin(f"int32x{lanes}", _MULTIPLY_ADD[lanes], x, w)

    def single(acc, x, w):
        dtype = vector_type("int32", lanes)
        return acc + tirx.Cast(dtype, x) * tirx.Cast(dtype, w)

    if "pmaddwd" in builder.variant.instructions and x.dtype == "int16":
        return _Products(2, "int32", pair_weights, pairs, "pairs of int16")
    dtype = w.dtype if lanes == 1 else "int16"
    return _Products(1, dtype, lambda array: array, single, f"{x.dtype} by {dtype}")


def _tile(builder: Builder, pixels: int, group_vectors: int) -> tuple[int, int]:
    """Return pixels and vectors of a register tile."""
    if builder.lanes == 1:
        return (1, 4) if pixels == 1 else (2, 2)  # a core has a dozen registers for sums, operands and addresses
    return float_tile(builder, pixels, group_vectors)


def _write(builder: Builder, anchor: Tensor, groups: int, taps: tuple[int, int], depth: int, at, stage: StagedRows | None = None) -> Kernel:
    """Write the kernel; ``at(place, group, kh, kw, k)`` is the index of element `k` of a tap."""
    x, w = anchor.args[:2]
    lanes, products = builder.lanes, _products(builder, anchor)
    widest, vectors = _tile(builder, anchor.shape[-2], -(-w.shape[0] // groups // lanes))
    c = Contraction(
        groups=groups,
        group_outputs=w.shape[0] // groups,
        taps=taps,
        depth=-(-depth // products.each),
        lanes=lanes,
        acc_dtype="int32",
        weight_dtype=products.weight_dtype,
        tile_dtype="int32",
        vectors=vectors,
        step=products.step,
        unrolled_steps=_UNROLLED_SCALARS if lanes == 1 else 96,
    )
    size = c.tap_count * c.lanes * c.group_vectors * c.groups
    outputs = w.shape[0]
    weights = builder.replace(w, size, c.weight_dtype, lambda array: arrange_weights(c, products.prepare(array.reshape(outputs, *taps, depth))))

    def load_x(place, _plane, g, kh, kw, k):
        if products.each == 1:
            return builder.evaluator.value(x, at(place, g, kh, kw, k), 1)
        first = at(place, g, kh, kw, 2 * k)
        if depth % 2 == 0:
            return reinterpret("int32", builder.evaluator.value(x, first, 2))
        # the last element has no neighbour; whatever is read instead meets a weight of 0
        second = at(place, g, kh, kw, tirx.min(2 * k + 1, depth - 1))
        low, high = (tirx.Cast("int32", builder.evaluator.value(x, index, 1)) for index in (first, second))
        return tirx.bitwise_or(tirx.bitwise_and(low, tirx.const(0xFFFF, "int32")), tirx.shift_left(high, tirx.const(16, "int32")))

    write_contraction(
        builder, anchor, c, weights, widest, load_x, lambda value, index, lanes: value, fill_tile_in_parts, parts_tile_bytes(c), stage=stage
    )
    return builder.kernel(f"{products.name}, tile {widest} pixels x {c.vectors} vectors of {lanes} channels")


def conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.conv2d`` (no padding) and its epilogue."""
    _, *kernel, channels = anchor.args[1].shape
    return _write(builder, anchor, int(anchor.attrs.groups), *conv_reads(anchor, kernel, channels), staged_rows(builder, anchor, kernel[0]))


def dense(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.dense`` and its epilogue."""
    return _write(builder, anchor, 1, (1, 1), anchor.args[1].shape[1], lambda place, g, kh, kw, k: (*place, k))
