"""Channel gathers on words: several pixels at a time, each output word put together from runs of consecutive bits.

The channel table is turned into runs at compile time, none across a word of its input. An aligned concatenation has one run a word, a shuffle of single
channels one run a bit. The words of 8 pixels stand side by side in vectors, so a run costs four vector operations for all of them::

    word[pixels] |= ((source[pixels] >> shift) & mask) << target

Processors with BMI2 have a better way (x86/bit_chains.py).
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.builder import PARALLEL_ELEMENTS, Builder
from bnncc.schedules.channels import PackedLayout, moved_bits
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.statements import const, spread
from bnncc.schedules.x86.bit_chains import PIXELS, chain_table, gather_by_chains, row_words

__all__ = ["gather_channels"]

_PIXELS = 8
_RUN = 4


def _runs(index: np.ndarray, inputs: list[PackedLayout], out: PackedLayout) -> np.ndarray:
    """Turn the channel table into runs of consecutive bits; arguments as of `moved_bits`.

    Returns
    -------
    ndarray, int32
        For each output word a row: how many runs, then for each run source word, first bit there, bits and first target bit; zeros to the end.
    """
    rows: list[list] = [[] for _ in range(out.words)]
    for (word, bit), (target, target_bit) in moved_bits(index, inputs, out):
        runs = rows[target]
        if runs and runs[-1][0] == word and runs[-1][1] + runs[-1][2] == bit and runs[-1][3] + runs[-1][2] == target_bit:
            runs[-1][2] += 1
        else:
            runs.append([word, bit, 1, target_bit])
    table = np.zeros((out.words, 1 + _RUN * out.bits), np.int32)
    for row, runs in zip(table, rows, strict=True):
        row[0] = len(runs)
        row[1 : 1 + _RUN * len(runs)] = np.ravel(runs)
    return table.reshape(-1)


def gather_channels(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.gather_channels``.

    Raises
    ------
    InternalError
        An operator follows it in its group, or it reads a tensor that the group computes.
    """
    index_param, *inputs = anchor.args
    if builder.group.outputs != (anchor,):
        raise InternalError(f"gather_channels {anchor.name}: no operator may follow it in its group")
    if any(x not in builder.buffers for x in inputs):
        raise InternalError(f"gather_channels {anchor.name} reads a tensor that its own group computes; it must be a parameter")
    attrs = anchor.attrs
    bits = int(attrs.word_bits)
    layouts = [PackedLayout(int(c), int(g), bits) for c, g in zip(attrs.in_channels, attrs.in_groups, strict=True)]
    out = PackedLayout(int(attrs.out_channels), int(attrs.out_groups), bits)
    by_chains = "pdep" in builder.variant.instructions
    if by_chains:
        table = builder.replace(index_param, out.words * row_words(bits), "uint64", lambda array: chain_table(array, layouts, out))
    else:
        table = builder.replace(index_param, out.words * (1 + _RUN * bits), "int32", lambda array: _runs(array, layouts, out))
    at_once = PIXELS if by_chains else _PIXELS
    pixels = anchor.size // anchor.shape[-1]
    parallel = not builder.variant.is_scalar and pixels > at_once and anchor.size >= PARALLEL_ELEMENTS // 4
    first = 0
    for lanes in (1,) if builder.variant.is_scalar else (at_once, 1):
        count = (pixels - first) // lanes
        if count:
            with builder.body.loop(count, "pixel", parallel=parallel) as block:
                if by_chains:
                    sources = [(builder.buffers[x], layout) for x, layout in zip(inputs, layouts, strict=True)]
                    gather_by_chains(builder, sources, out, anchor.dtype, table, builder.stored(anchor), block * lanes + first, lanes)
                else:
                    _pixels(builder, anchor, list(zip(inputs, layouts, strict=True)), out, table, block * lanes + first, lanes)
        first += count * lanes
    return builder.kernel(f"channel gather, {anchor.dtype} words, {'chains of bits, ' * by_chains}{at_once} pixels at a time")


def _pixels(builder: Builder, anchor: Tensor, inputs: list, out: PackedLayout, table, first, lanes: int) -> None:
    """Gather the channels of `lanes` pixels from `first` on."""
    body, bits = builder.body, out.bits
    source = body.local(anchor.dtype, sum(layout.words for _, layout in inputs) * lanes, "source")
    at = 0
    for x, layout in inputs:
        with body.loop(layout.words, "w") as w:
            for pixel in range(lanes):
                body.store(source, (at + w) * lanes + pixel, body.load(builder.buffers[x], (first + pixel) * layout.words + w))
        at += layout.words
    with body.loop(out.words, "o") as o:
        result = body.local(anchor.dtype, lanes, "word")
        body.store(result, 0, const(0, anchor.dtype, lanes), lanes)
        row = o * (1 + _RUN * bits)
        with body.loop(body.load(table, row), "r") as r:
            word, shift, count, target = (body.load(table, row + 1 + r * _RUN + part) for part in range(_RUN))
            mask = tirx.shift_right(const((1 << bits) - 1, anchor.dtype), tirx.Cast(anchor.dtype, bits - count))
            run = tirx.shift_right(body.load(source, word * lanes, lanes), spread(tirx.Cast(anchor.dtype, shift), lanes))
            run = tirx.shift_left(tirx.bitwise_and(run, spread(mask, lanes)), spread(tirx.Cast(anchor.dtype, target), lanes))
            body.store(result, 0, tirx.bitwise_or(body.load(result, 0, lanes), run), lanes)
        for pixel in range(lanes):
            body.store(builder.stored(anchor), (first + pixel) * out.words + o, body.load(result, pixel))
