"""Limits of counts inside vertical counters: a counter that starts from ``2 ** m - limit`` has bit m set once the count has reached the limit.

Where a group ends with one threshold a channel and the words of its bits, that bit is the answer, in the order of the words already. So the limit costs planes
to start from that are not zero, and neither the counts' transposition nor a comparison nor the gathering of bits is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnncc.schedules.builder import Builder
from bnncc.schedules.count_limits import CountLimits, limits_of
from bnncc.schedules.evaluate import layout_of
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.statements import reinterpret

__all__ = ["Answers", "answers_alone", "bits_alone", "find_answers", "limit_planes"]


def limit_planes(limits: np.ndarray, length: int, lanes: int) -> np.ndarray:
    """Return the planes that counters start from.

    Parameters
    ----------
    limits : ndarray, int64, shape (..., channels), from 0 to ``length + 1``
    length : int
        Inputs of an output.
    lanes : int
        Channels of a vector; they divide the channels.

    Returns
    -------
    ndarray, uint64, shape (..., vectors, planes, lanes / 64)
        Planes 0 to ``length.bit_length()``; channel i of a vector is bit i % 64 of word i // 64.
    """
    top = length.bit_length()
    start = (1 << top) - limits.astype(np.int64)
    bits = (start[..., None] >> np.arange(top + 1) & 1).astype(np.uint8)
    split = np.moveaxis(bits.reshape(*limits.shape[:-1], -1, lanes, top + 1), -1, -2)
    return np.packbits(np.ascontiguousarray(split), axis=-1, bitorder="little").view(np.uint64)


@dataclass(frozen=True)
class Answers:
    """Where counters start, and where their answers go.

    Parameters
    ----------
    builder : Builder
    limits : CountLimits
    pack : Tensor
        The only output.
    table : Buffer
        Of `limit_planes`, for all classes of rows and columns.
    planes, lanes : int
        Of a counter.
    place : callable, optional
        ``place(row, pixel)``: index of an output of the tile, without the channels.
    """

    builder: Builder
    limits: CountLimits
    pack: Tensor
    table: object
    planes: int
    lanes: int
    place: Callable | None = None

    def start(self, row, pixel, vector):
        """Return where the first plane of a vector of channels stands in the table."""
        border, index = self.limits.border, 0
        if border:
            y, x = self.place(row, pixel)[1:]
            classes = border[0].shape[:2]
            index = self.builder.evaluator.value(border[1], (y,), 1) * classes[1] + self.builder.evaluator.value(border[2], (x,), 1)
        return (index * (self.pack_channels // self.lanes) + vector) * (self.planes * self.lanes // 64)

    @property
    def pack_channels(self) -> int:
        """Channels of the output."""
        return int(self.pack.attrs.channels)

    def store(self, row, pixel, vector, value) -> None:
        """Store the answers of a vector of channels."""
        bits = int(self.pack.dtype[4:])
        words = self.lanes // bits
        if bits != 64:
            value = reinterpret(f"{self.pack.dtype}x{words}", value)
        self.builder.body.store(self.builder.stored(self.pack), linear_index(self.pack.shape, (*self.place(row, pixel), vector * words)), value, words)


def answers_alone(builder: Builder, limits: CountLimits | None) -> bool:
    """Return whether a group ends with one threshold a channel, whose weights know its direction, and its words."""
    pack = builder.group.outputs[0]
    if limits is None or limits.is_turned or builder.pool is not None or not all(builder.group.is_constant(param) for param in limits.border):
        return False
    if len(builder.group.outputs) != 1 or pack.op != "relax.bnn.pack" or pack.args[0] is not limits.quantize:
        return False
    return int(pack.attrs.planes) == 1 and not int(pack.attrs.step) and limits.thresholds.shape[0] == 1 and layout_of(pack).normal().groups == 1


def bits_alone(builder: Builder, anchor: Tensor, limits: CountLimits | None) -> bool:
    """Return whether a group ends with limits, several a channel or of repeated channels perhaps, and the words of their bits, a plane for each threshold."""
    pack = builder.group.outputs[0]
    constants = (anchor.args[1], *(limits.border if limits else ()))
    if limits is None or builder.pool is not None or not all(builder.group.is_constant(param) for param in constants):
        return False
    if len(builder.group.outputs) != 1 or pack.op != "relax.bnn.pack" or pack.args[0] is not limits.quantize:
        return False
    return int(pack.attrs.planes) == limits.thresholds.shape[0] and not int(pack.attrs.step) and layout_of(pack).normal().groups == 1


def find_answers(builder: Builder, anchor: Tensor, limits: CountLimits, length: int, lanes: int) -> Answers | None:
    """Return the answers of a group where these are all that it ends with and fill whole vectors of `lanes` channels; else None."""
    channels, pack = anchor.shape[-1], builder.group.outputs[0]
    if channels % lanes or not answers_alone(builder, limits):
        return None
    classes = limits.border[0].shape[:2] if limits.border else (1, 1)
    table = limits.border[:1]

    def arrange(thresholds: np.ndarray, *others: np.ndarray) -> np.ndarray:
        border, flip = (others[0], others[1:]) if table else (np.zeros((1, 1, channels), np.int32), others)
        found = limits_of(np.broadcast_to(thresholds.reshape(1, -1), (1, channels)), border, limits.falls(channels, *flip), length)
        return limit_planes(found[0], length, lanes).reshape(-1)

    planes = length.bit_length() + 1
    buffer = builder.replace(limits.thresholds, classes[0] * classes[1] * channels // 64 * planes, "uint64", arrange, (*table, *limits.direction))
    builder.read_at_compile_time(*table, *limits.direction)
    return Answers(builder, limits, pack, buffer, planes, lanes)
