"""Counts in planes of pixels compared with limits: several a channel, of repeated channels, or where codes of 0 make the planes of the input two.

``count >= limit`` is the carry out of ``count + (2 ** planes - limit)``, one majority for each plane. Where codes fall with the sum, the answer is turned.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.count_limits import CountLimits, turned_limits_of
from bnncc.schedules.group import Tensor
from bnncc.schedules.statements import Statements, const, reinterpret, spread

__all__ = ["LimitComparison", "class_bytes"]


def class_bytes(body: Statements, buffer, size: int, channel, channels: int, present: tuple | None, lanes: int) -> list:
    """Return `size` vectors, each a byte of a channel in all its bytes; at a border those of each lane's class.

    Parameters
    ----------
    buffer : Buffer
        Of bytes, [class][channel][size].
    present : tuple, optional
        Numbers and lanes of classes, and how many there are.
    lanes : int
        Bits of a vector.
    """
    width = lanes // 64

    def byte(index):
        return reinterpret(f"uint64x{width}", spread(body.load(buffer, index), lanes // 8))

    if present is None:
        return [byte(channel * size + i) for i in range(size)]
    numbers, lanes_of, count = present
    vectors = [body.local("uint64", width, "start") for _ in range(size)]
    for vector in vectors:
        body.store(vector, 0, const(0, "uint64", width), width)
    with body.loop(body.load(count, 0), "k") as k:
        first = body.bind((body.load(numbers, k) * channels + channel) * size, "first")
        own = body.bind(body.load(lanes_of, k * width, width), "own")
        for i, vector in enumerate(vectors):
            body.store(vector, 0, body.load(vector, 0, width) | (byte(first + i) & own), width)
    return [body.load(vector, 0, width) for vector in vectors]


class LimitComparison:
    """Compares the counts of a channel with all its limits.

    Parameters
    ----------
    builder : Builder
    anchor : Tensor
    limits : CountLimits
    length : int
        Inputs of an output.
    planes : int
        Of a count, those of all planes of the input in one.
    lanes : int
        Of a vector.
    """

    def __init__(self, builder: Builder, anchor: Tensor, limits: CountLimits, length: int, planes: int, lanes: int):
        self.body, self.anchor, self.limits, self.planes, self.lanes = builder.body, anchor, limits, planes, lanes
        self.width = lanes // 64
        self.count, self.channels = limits.thresholds.shape[0], limits.quantize.shape[-1]
        repeats = limits.quantize.args[0]
        self.each = int(repeats.attrs.each) if repeats is not anchor else 1
        self.size = planes + 2  # of the start, and whether the answer is turned
        most, table = int(anchor.attrs.planes), limits.border[:1]
        classes = limits.border[0].shape[:2] if limits.border else (1, 1)
        self.table_size = math.prod(classes) * self.channels * self.size

        def arrange(thresholds: np.ndarray, *others: np.ndarray) -> np.ndarray:
            border, flip = (others[0], others[1:]) if table else (np.zeros((1, 1, anchor.shape[-1]), np.int32), others)
            border = border[..., np.arange(self.channels) // self.each % anchor.shape[-1]]
            falls = limits.falls(self.channels, *flip)
            found = turned_limits_of(np.broadcast_to(thresholds.reshape(self.count, -1), (self.count, self.channels)), border, falls, length, most)
            found = np.where(falls, -found, found)
            starts = []
            for summed in range(1, most + 1):  # of two planes one is summed, and counts half, where both are equal
                start = (1 << planes) - (found if summed == most else (found + 1) // 2)
                bits = start[..., None] >> np.arange(planes + 1) & 1
                turned = np.broadcast_to(falls[:, None], (*found.shape, 1))
                starts.append(np.concatenate([bits, turned], axis=-1) * 255)
            return np.stack(starts).astype(np.uint8).reshape(-1)

        self.starts = builder.replace(limits.thresholds, most * self.count * self.table_size, "uint8", arrange, (*table, *limits.direction))
        builder.read_at_compile_time(*table, *limits.direction)

    def write(self, counts: list, channel, summed, present: tuple | None, answers) -> None:
        """Write the answers of a channel of the anchor, [threshold][channel], the channels of a threshold from a multiple of 64 on.

        Parameters
        ----------
        counts : list
            The planes of its counts.
        summed : int or expression
            Planes of the input that were summed.
        """
        body, own = self.body, self.anchor.shape[-1]
        room = -(-self.channels // 64) * 64
        with body.loop(self.count, "limit") as number, body.loop(self.channels // (own * self.each), "t") as t, body.loop(self.each, "e") as e:
            place = (t * own + channel) * self.each + e
            starts = body.part(self.starts, ((summed - 1) * self.count + number) * self.table_size, self.table_size, "starts")
            *start, above, turned = class_bytes(body, starts, self.size, place, self.channels, present, self.lanes)
            carry = body.bind(tirx.bitwise_and(counts[0], start[0]), "carry")
            for plane, bit in zip(counts[1:], start[1:], strict=True):
                differ = body.bind(tirx.bitwise_xor(plane, bit), "x")
                carry = body.bind(tirx.bitwise_xor(plane, tirx.bitwise_and(differ, tirx.bitwise_xor(plane, carry))), "carry")
            answer = tirx.bitwise_xor(tirx.bitwise_or(carry, above), turned)
            body.store(answers, (number * room + place) * self.width, answer, self.width)
