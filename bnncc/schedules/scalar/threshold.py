"""The epilogue that sliced kernels take into their counters: integer thresholds, one or two a channel, and the answers packed, a plane for each.

A threshold on the sum is a limit on the number of differing bits (`count_limits`): the weights of channels whose codes fall with the sum are complemented, and
the border is part of the limit, both at compile time. The bit is 1 where the count reaches its limit: counters that start from ``2 ** k - limit``, 2 ** k more
than any count, carry out of the top plane there. So a threshold costs the preloading of the planes, and no comparison.

Where the input is two planes (a plain Sign, which may be 0), the sum is ``length - count of the first - count of the second``. Counters of both start
from ``2 ** (k + 1) - limit``. Where both are found equal, one is counted, ``2 count >= limit`` asks for ``count >= ceil(limit / 2)``, and they start from half
of that number and 2 ** k, so that they carry out of the same plane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.ops.pack import tail_mask
from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.count_limits import limits_of
from bnncc.schedules.evaluate import layout_of
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.group import Tensor
from bnncc.schedules.scalar.counters import Counter

__all__ = ["Threshold", "find_threshold"]


@dataclass(frozen=True)
class Threshold:
    """The quantizer and the words of a group that ends with them.

    Parameters
    ----------
    limits, flip : Tensor
        Of one element, or one an output channel.
    border : tuple of Tensor
        Table, classes of rows, classes of columns; empty without one.
    layout : PackedLayout
        Of the output.
    channels : int
    length : int
        K: the sum is ``length - 2 count + border``.
    bits : int
        Inputs of a dot product as they lie in memory: those of tail bits, which are 0, count where the weights are complemented.
    inputs : int
        Those of a tap.
    input_planes : int
    """

    limits: Tensor
    flip: Tensor
    border: tuple[Tensor, ...]
    layout: PackedLayout
    channels: int
    length: int
    bits: int
    inputs: int
    input_planes: int = 1

    @property
    def top(self) -> int:
        """Counters carry out of the plane below ``2 ** top``."""
        return self.bits.bit_length() + self.input_planes - 1

    @property
    def planes(self) -> int:
        """Words that the start of a counter takes."""
        return self.top + 1

    @property
    def count(self) -> int:
        """Thresholds, and planes of the output."""
        return self.limits.shape[0]

    @property
    def classes(self) -> int:
        """Limits of a channel: one, or one for each class of places at the border."""
        return int(np.prod(self.border[0].shape[:2])) if self.border else 1

    @property
    def _known(self) -> tuple[Tensor, ...]:
        """Parameters that say what the counters start from; the others are numbers inside the group."""
        return tuple(tensor for tensor in (self.limits, self.flip, *self.border[:1]) if tensor.constant is None)

    def _value(self, tensor: Tensor, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.array(tensor.constant) if tensor.constant is not None else arrays[self._known.index(tensor)]

    def _falls(self, flip: np.ndarray) -> np.ndarray:
        return np.broadcast_to(flip.reshape(-1) < 0, self.channels)

    def complement(self, builder: Builder, weights: Tensor, size: int, dtype: str, arrange: Callable[[np.ndarray], np.ndarray]):
        """Give the weights a buffer of what ``arrange(words)`` returns, with the words of channels whose codes fall complemented."""

        def arranged(words: np.ndarray, *flip: np.ndarray) -> np.ndarray:
            falls = self._falls(flip[0] if flip else np.array(self.flip.constant)).reshape(-1, *[1] * (words.ndim - 1))
            return arrange(np.where(falls, words ^ tail_mask(self.inputs, 1, 8 * words.dtype.itemsize), words))

        return builder.replace(weights, size, dtype, arranged, () if self.flip.constant is not None else (self.flip,))

    def starts(self, builder: Builder, size: int, arrange: Callable[[np.ndarray], np.ndarray]):
        """Give what counters start from a buffer of uint32.

        Parameters
        ----------
        size : int
            Of what `arrange` returns.
        arrange : callable
            Gets the starts, int64, of shape (thresholds, classes, channels).

        Returns
        -------
        Buffer, or int where all channels start from one number that is known here.
        """

        def start(*arrays: np.ndarray) -> np.ndarray:
            thresholds = np.broadcast_to(self._value(self.limits, arrays).reshape(self.count, -1), (self.count, self.channels))
            border = self._value(self.border[0], arrays).reshape(self.border[0].shape) if self.border else np.zeros((1, 1, self.channels), np.int32)
            falls = self._falls(self._value(self.flip, arrays))
            limits = self._limits(thresholds, border, falls)
            return (1 << self.top) - limits.reshape(self.count, self.classes, self.channels)

        if not self._known:
            return int(start()[0, 0, 0])
        host, *others = self._known
        found = builder.replace(host, size, "uint32", lambda *arrays: arrange(start(*arrays)).astype(np.uint32).reshape(-1), tuple(others))
        builder.read_at_compile_time(*others)
        return found

    def _limits(self, thresholds: np.ndarray, border: np.ndarray, falls: np.ndarray) -> np.ndarray:
        if self.input_planes == 1:
            return limits_of(thresholds, border, falls, self.length, self.bits)
        room = self.length + border[None].astype(np.int64) - thresholds.astype(np.int64)[:, None, None]
        return np.clip(np.where(falls, 2 * self.bits - room, room) + 1, 0, 2 * self.bits + 1)

    def start_number(self, start: np.ndarray, planes: int) -> np.ndarray:
        """Return what counters start from where so many planes of the input are counted, of the numbers of `starts`."""
        return start if planes == self.input_planes else (start >> 1) + (1 << self.top - 1)

    def start_word(self, start, planes):
        """Return the same at run time, of a word that holds such a number."""
        if self.input_planes == 1:
            return start
        one = tirx.shift_right(start, tirx.const(1, "uint32")) + tirx.const(1 << self.top - 1, "uint32")
        return tirx.Select(tirx.EQ(planes, 1), one, start)

    def prepare(self, counter: Counter, start: list[Callable], parities: list, levels: int) -> None:
        """Give a counter the first planes of the start and the bits of weight 1 that the inputs left, one for each of their planes.

        Parameters
        ----------
        start : list of callable
            Makes a plane where it is needed: those above the first `levels` only in `answer`, so that they take no register before.
        """
        for level, plane in enumerate(start[1 : 1 + levels]):
            counter.add(counter.body.bind(plane(), "plane"), level)
        *_, last = parities
        carry = tirx.bitwise_and(last, start[0]())  # of the bits of weight 1 the carry is all that matters
        if len(parities) == 2:
            carry = tirx.bitwise_or(carry, tirx.bitwise_and(parities[0], tirx.bitwise_or(last, start[0]())))
        counter.add(counter.body.bind(carry, "m"), 0)

    def answer(self, counter: Counter, start: list[Callable], levels: int):
        """Return the bits of the output."""
        for level, plane in enumerate(start[1 + levels :], levels):
            counter.add(counter.body.bind(plane(), "plane"), level)
        return counter.carry_out(self.top - 1)


def find_threshold(builder: Builder, anchor: Tensor, shape: BinaryShape, length: int) -> Threshold | None:
    """Return the epilogue of a group where it is thresholds of a channel, packed in a plane each; else None."""
    group = builder.group
    if len(group.nodes) != 3 or len(group.outputs) != 1 or group.nodes[0] is not anchor:
        return None
    _, quantize, pack = group.nodes
    if quantize.op != "relax.bnn.quantize" or pack.op != "relax.bnn.pack" or group.outputs[0] is not pack:
        return None
    if quantize.args[0] is not anchor or pack.args[0] is not quantize or int(pack.attrs.step):
        return None
    limits, flip = quantize.args[1:]
    channels = anchor.shape[-1]
    count = int(pack.attrs.planes)
    if limits.dtype != "int32" or limits.shape[0] != count or (int(quantize.attrs.lo), int(quantize.attrs.step)) != {1: (-1, 2), 2: (-1, 1)}.get(count):
        return None
    for tensor, size in ((limits, limits.size // count), (flip, flip.size)):
        if not group.is_constant(tensor) or size not in (1, channels) or (size == channels and tensor.shape[-1] != channels):
            return None
    border = anchor.args[2:]
    if count == 2 and limits.size == 1:
        return None
    if border and not group.is_constant(border[0]):
        return None
    bits = shape.taps[0] * shape.taps[1] * shape.inputs
    return Threshold(limits, flip, border, layout_of(pack).normal(), channels, length, bits, shape.inputs, int(anchor.attrs.planes))
