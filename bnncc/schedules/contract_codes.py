"""Convolution and dense layer on small integers by signs that are stored as bits: what `contract_signs` is for real inputs, exact here.

`passes/plane_costs.py` says when it is quicker than planes and int16 pairs, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from tvm import tirx

from bnncc.ops.pack import PackAttrs, unpack_reference
from bnncc.schedules.builder import Builder
from bnncc.schedules.code_sums import CodeSums
from bnncc.schedules.code_sums_writer import fill_code_sums
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.register_tile import Contraction
from bnncc.schedules.statements import const, reinterpret, vector_type

__all__ = ["write_code_sums"]

_LANES = 8
"""Channels that are stored to a tile together, at least."""

_BYTES_PAY = 15
"""Largest code whose sums of four are added in bytes."""


_MOST_PIXELS = 256
"""Of a tile."""


def write_code_sums(
    builder: Builder, anchor: Tensor, groups: int, taps: tuple[int, int], depth: int, channels: int, at: Callable
) -> Kernel:
    """Write the kernel: `channels` inputs lie in a word row of the weights, `depth` elements in a tap; ``at(place, g, kh, kw, k)`` is the index of one."""
    x, w = anchor.args[:2]
    outputs, bits = w.shape[0], int(w.dtype[4:])
    lo, hi, step = (int(v) for v in anchor.attrs.codes)
    top = (hi - lo) // step
    size = builder.variant.lanes(8)
    lanes = max(_LANES, builder.lanes)
    in_bytes = builder.choices.choose("sums", "bytes" if top <= _BYTES_PAY else "words", ("bytes", "words")) == "bytes" and top <= _BYTES_PAY
    vectors = builder.choices.choose("pixel vectors", 2 if in_bytes else 1, (1, 2))
    c = Contraction(
        groups=groups,
        group_outputs=outputs // groups,
        taps=taps,
        depth=depth,
        lanes=lanes,
        acc_dtype="int16",
        weight_dtype="uint8",
        tile_dtype="int16" if taps[0] * taps[1] * depth * top <= 32767 else "int32",
        vectors=-(-outputs // groups // lanes),
    )
    cut = CodeSums(c, lo, top, step, size, vectors, in_bytes)

    def arrange(words: np.ndarray) -> np.ndarray:
        return cut.arrange(unpack_reference(PackAttrs(channels, 1, bits), words).reshape(outputs, *taps, depth) > 0)

    weights = builder.replace(w, cut.bits_size + 4 * outputs, "uint8", arrange)

    def load_x(place, _plane, g, kh, kw, k, count=1):
        return builder.evaluator.value(x, at(place, g, kh, kw, k), count)

    def read(value, index, lanes):
        typed = vector_type("int32", lanes)
        total = tirx.Cast(typed, value) if c.tile_dtype != "int32" else value
        if step > 1:
            total = total * const(step, "int32", lanes)
        if not lo:
            return total
        return total + reinterpret(typed, builder.body.load(weights, cut.bits_size + 4 * index[-1], 4 * lanes))

    write_contraction(builder, anchor, c, weights, _MOST_PIXELS, load_x, read, partial(fill_code_sums, cut), pixel_lanes=size)
    kind = "bytes" if in_bytes else "words"
    return builder.kernel(f"sums of 4 codes by signs in {kind}, {vectors} vectors of {size} pixels")
