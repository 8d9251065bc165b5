"""The epilogue that sliced kernels take into their counters: one integer threshold a channel, and the answers packed.

With K inputs, c of them differing, and a threshold t on ``K - 2 c``, the bit is 1 (below the threshold) where ``2 c > u``, ``u = K - t``; where the channel is
flipped it is 1 where ``2 c < u``, which is ``not (2 c > u - 1)``. Counters that start from ``2 ** (k + 1) - 1 - u``, plus 1 where flipped, carry out of the top
plane where ``2 c > u`` (2 ** k > K). So a threshold costs the preloading of the planes, and no comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.evaluate import layout_of
from bnncc.schedules.group import Tensor
from bnncc.schedules.scalar.counters import Counter
from bnncc.schedules.statements import Statements

__all__ = ["Threshold", "find_threshold", "start_at", "start_of"]

_FAR = 1 << 24


def start_of(u: np.ndarray, length: int) -> np.ndarray:
    """Return what the counters of channels start from, int64, by u."""
    return (2 << length.bit_length()) - 1 - np.clip(u, -1, 2 * length + 1)


def start_at(u, length: int):
    """Return what a counter starts from, an expression of type int32, by u."""
    clipped = tirx.max(tirx.min(u, tirx.const(2 * length + 1, "int32")), tirx.const(-1, "int32"))
    return tirx.const((2 << length.bit_length()) - 1, "int32") - clipped


@dataclass(frozen=True)
class Threshold:
    """The quantizer and the words of a group that ends with them.

    Parameters
    ----------
    limits, flip : Tensor
        Of one element, or one an output channel.
    layout : PackedLayout
        Of the output.
    length : int
        K, inputs of a dot product.
    """

    limits: Tensor
    flip: Tensor
    layout: PackedLayout
    length: int

    @property
    def planes(self) -> int:
        """Words that the start of a counter takes, from the half on."""
        return self.length.bit_length() + 2

    def distances(self, array: np.ndarray, channels: int) -> np.ndarray:
        """Return u for every channel, int64, near enough that 32 bits hold it with a border added."""
        return np.broadcast_to(np.clip(self.length - array.reshape(-1).astype(np.int64), -_FAR, _FAR), channels)

    def prepare(self, body: Statements, start: list[Callable], flipped, parity, levels: int) -> Counter:
        """Return a counter that has the first planes of the start, whether flipped, and the bit of weight 1 that the inputs left.

        Parameters
        ----------
        start : list of callable
            Makes a plane where it is needed: those above the first `levels` only in `answer`, so that they take no register before.
        """
        counter = Counter(body)
        half = tirx.bitwise_and(start[0](), flipped)
        one = body.bind(start[1](), "one")
        for level, plane in enumerate(start[2 : 2 + levels]):
            counter.add(body.bind(plane(), "plane"), level)
        # the bits of weight 1: their carry is all that matters
        x = body.bind(tirx.bitwise_xor(parity, one), "x")
        carry = tirx.bitwise_xor(tirx.bitwise_and(x, tirx.bitwise_xor(half, one)), one)
        counter.add(body.bind(carry, "m"), 0)
        return counter

    def answer(self, counter: Counter, start: list[Callable], flipped, levels: int):
        """Return the bits of the output."""
        for level, plane in enumerate(start[2 + levels :], levels):
            counter.add(counter.body.bind(plane(), "plane"), level)
        return tirx.bitwise_xor(counter.carry_out(self.length.bit_length() - 1), flipped)


def find_threshold(builder: Builder, anchor: Tensor, length: int) -> Threshold | None:
    """Return the epilogue of a group where it is one threshold a channel, packed in one plane; else None."""
    group = builder.group
    if len(group.nodes) != 3 or len(group.outputs) != 1 or group.nodes[0] is not anchor:
        return None
    _, quantize, pack = group.nodes
    if quantize.op != "relax.bnn.quantize" or pack.op != "relax.bnn.pack" or group.outputs[0] is not pack:
        return None
    if quantize.args[0] is not anchor or pack.args[0] is not quantize or int(pack.attrs.planes) != 1 or int(pack.attrs.step):
        return None
    limits, flip = quantize.args[1:]
    channels = anchor.shape[-1]
    if limits.dtype != "int32" or limits.shape[0] != 1 or (int(quantize.attrs.lo), int(quantize.attrs.step)) != (-1, 2):
        return None
    for tensor in (limits, flip):
        if not group.is_constant(tensor) or tensor.size not in (1, channels) or (tensor.size == channels and tensor.shape[-1] != channels):
            return None
    return Threshold(limits, flip, layout_of(pack).normal(), length)
