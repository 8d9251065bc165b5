"""FoldTake: quantizers of selected channels read the channels where they are; only bits are moved.

BoolNet's k-slice sign compares every channel with k thresholds. It arrives as channels repeated k times (``take``) and one quantizer over all of them, which
would keep a float tensor of k times the size between an accumulator and its thresholds. Any selection (repeats, permutations, parts) is so many quantizers of
all channels as its most frequent channel occurs times, and a selection of their codes. Where the occurrences already stand one whole set after another, that
selection is a concatenation alone::

    t = take(x, [0, 0, 1, 1], axis=3)              q0 = bnn.quantize(x, thresholds[:, 0::2], flip)
    q = bnn.quantize(t, thresholds, flip)    ->    q1 = bnn.quantize(x, thresholds[:, 1::2], flip)
                                                   c = concat((q0, q1), axis=3)
                                                   q = take(c, [0, 2, 1, 3], axis=3)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import is_bnn, static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.quantize_channels import quantize_channels
from bnncc.passes.rewrite import Builder, Rewriter, const, constant, op_name

__all__ = ["fold_take"]


def _occurrences(index: np.ndarray) -> np.ndarray:
    """Return of each selected channel how often it was selected before."""
    seen: dict[int, int] = {}
    before = []
    for channel in index.tolist():
        before.append(seen.get(channel, 0))
        seen[channel] = before[-1] + 1
    return np.array(before)


class _FoldTake(Rewriter):
    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "quantize") or not isinstance(value.args[0], relax.Var):
            return None
        take = builder.values.get(value.args[0])
        if op_name(take) != "relax.take" or take.attrs.axis is None:
            return None
        x, index = take.args[0], constant(take.args[1])
        rank, channels = len(static_shape(x)), static_shape(x)[-1]
        if int(take.attrs.axis) % rank != rank - 1 or index is None or index.ndim != 1 or not len(index) or index.min() < 0 or index.max() >= channels:
            return None
        before = _occurrences(index)
        slices = int(before.max()) + 1
        if slices * channels > 2 * len(index):
            return None  # most of what would be quantized is not wanted
        # which selected element stands for channel c of slice i; what nothing selects takes the thresholds of any
        picked = np.zeros((slices, channels), np.int64)
        picked[before, index] = np.arange(len(index))
        parts = []
        for i in range(slices):
            parts.append(builder.emit(quantize_channels(value, x, picked[i]), f"{var.name}_slice"))
        place = before * channels + index
        whole = np.array_equal(place, np.arange(slices * channels))
        if slices == 1:
            return parts[0] if whole else op.take(parts[0], const(place.astype(np.int32)), axis=rank - 1, mode="clip")
        joined = op.concat(parts, axis=rank - 1)
        return joined if whole else op.take(builder.emit(joined, f"{var.name}_slices"), const(place.astype(np.int32)), axis=rank - 1, mode="clip")


def fold_take(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Quantize selected channels from all channels, once for each time they are selected, and select among the codes."""
    return _FoldTake(mod).run()
