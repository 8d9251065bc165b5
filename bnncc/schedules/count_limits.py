"""Thresholds in counts: a binary contraction that only a quantizer reads need not become a sum first.

The sum of a contraction is ``length - 2 count + border``, with `count` the number of differing bits. So ``sum >= t`` is a limit on the count, which takes in
the border table and the direction at compile time: where a code falls with the sum, the weights are complemented, and `count` becomes ``length - count``.
What is left is one comparison in the type of the counts, instead of a widening, a shift, a subtraction, an exclusive or, and the addition of the border.

Weights cannot be complemented where channels are repeated for several quantizers (a multi-slice sign), whose codes may differ in direction, or where the input
has a second plane. There ``count >= g`` is ``~count < -g``: an exclusive or with 0 or -1, in 16 bits mostly. With P of two planes summed the sum is
``length - 2 count / P``, so that the limits are those of ``2 count / P``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.ops.pack import tail_mask
from bnncc.schedules.builder import Builder
from bnncc.schedules.evaluate import as_mask
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.statements import spread

__all__ = ["CountLimits", "complemented", "count_limits", "limits_of", "turned_limits_of", "use_limits", "use_turned_limits"]


@dataclass(frozen=True)
class CountLimits:
    """The quantizer that alone reads a contraction, and what is known of it."""

    quantize: Tensor
    thresholds: Tensor
    flip: Tensor
    border: tuple[Tensor, ...]
    is_turned: bool = False
    """Whether counts are turned where codes fall, as the weights cannot be complemented."""

    @property
    def direction(self) -> tuple[Tensor, ...]:
        """The parameter that says in which direction codes grow; none where that is a number inside the group."""
        return () if self.flip.constant is not None else (self.flip,)

    def falls(self, channels: int, *flip: np.ndarray) -> np.ndarray:
        """Return, for each channel, whether its code falls with the sum."""
        values = flip[0] if flip else np.array(self.flip.constant)
        return np.broadcast_to(values.reshape(-1) < 0, channels)


def count_limits(builder: Builder, anchor: Tensor) -> CountLimits | None:
    """Return the quantizer whose thresholds can be put in counts, or None.

    That takes one reader of the anchor, or of its repeated channels, and constants that nobody else reads, one threshold a channel.
    """
    group = builder.group

    def reader(of: Tensor) -> Tensor | None:
        found = [node for node in group.nodes if any(arg is of for arg in node.args)]  # `in` would compare numbers of TVM
        return found[0] if len(found) == 1 and group.uses.get(of) == 1 else None

    quantize = repeats = reader(anchor)
    if repeats is not None and repeats.op == "relax.bnn.repeat_channels":
        quantize = reader(repeats)
    if quantize is None or quantize.op != "relax.bnn.quantize":
        return None
    _, thresholds, flip = quantize.args
    weights, border = anchor.args[1], anchor.args[2:]
    own = (thresholds, *border[:1], *(() if flip.constant is not None else (flip,)))
    if any(param not in group.constant_params or group.uses.get(param) != 1 for param in own):
        return None
    channels = quantize.shape[-1]
    if quantize.shape[:-1] != anchor.shape[:-1] or not all(_by_channel(shape, channels) for shape in (thresholds.shape[1:], flip.shape)):
        return None
    words = -(-(int(anchor.attrs.channels) // int(getattr(anchor.attrs, "groups", 1))) // int(anchor.args[0].dtype[4:]))
    whole = weights.shape[-1] == words and weights in group.constant_params and group.uses.get(weights) == 1  # tail bits are known
    turned = repeats is not quantize or int(anchor.attrs.planes) != 1 or not whole
    return CountLimits(quantize, thresholds, flip, border, turned)


def _by_channel(shape: tuple[int, ...], channels: int) -> bool:
    """Tell whether a shape has one element, or one a channel along its last axis."""
    return math.prod(shape) == 1 or math.prod(shape) == channels == shape[-1]


def complemented(limits: CountLimits, inputs: int) -> Callable[..., np.ndarray]:
    """Return how the weights of channels whose codes fall are complemented; tail bits stay 0."""

    def arrange(weights: np.ndarray, *flip: np.ndarray) -> np.ndarray:
        falls = limits.falls(weights.shape[0], *flip).reshape(-1, *[1] * (weights.ndim - 1))
        return np.where(falls, weights ^ tail_mask(inputs, 1, 8 * weights.dtype.itemsize), weights)

    return arrange


def limits_of(thresholds: np.ndarray, border: np.ndarray, falls: np.ndarray, length: int, bits: int | None = None) -> np.ndarray:
    """Return the counts from which on a threshold is no longer reached.

    Parameters
    ----------
    thresholds : ndarray, int32, shape (n, channels)
    border : ndarray, int32, shape (classes of rows, classes of columns, channels)
        What is added to ``length - 2 count``.
    falls : ndarray, bool, shape (channels,)
        Where ``sum <= threshold`` counts, and the count is that of the complemented weights.
    length : int
        Inputs of an output.
    bits : int, optional
        What the count of the complemented weights and the count add up to; by default `length`, and more where tail bits are complemented too.

    Returns
    -------
    ndarray, int64, shape (n, classes of rows, classes of columns, channels), from 0 to ``bits + 1``
    """
    bits = length if bits is None else bits
    room = length + border[None].astype(np.int64) - thresholds.astype(np.int64)[:, None, None]
    # count <= floor(room / 2), and bits - count >= ceil(room / 2)
    limits = np.where(falls, bits + room // -2, room // 2) + 1
    return np.clip(limits, 0, bits + 1)


def turned_limits_of(thresholds: np.ndarray, border: np.ndarray, falls: np.ndarray, length: int, planes: int) -> np.ndarray:
    """Return what the count, turned where codes fall, has to be less than; arguments as of `limits_of`.

    Parameters
    ----------
    planes : int
        Of the input: the counts are those of both, twice that of one where there are two.

    Returns
    -------
    ndarray, int64, shape (n, classes of rows, classes of columns, channels), from ``-most - 1`` to ``most + 1`` with `most` the largest count
    """
    most = length * planes
    room = length + border[None].astype(np.int64) - thresholds.astype(np.int64)[:, None, None]
    step = 2 // planes  # by so much the sum falls with a count
    return np.where(falls, -np.clip(-(room // -step), 0, most + 1), np.clip(room // step + 1, 0, most + 1))


def use_limits(builder: Builder, anchor: Tensor, limits: CountLimits, length: int, dtype: str) -> None:
    """Make the quantizer compare what the anchor evaluates to, a count of type `dtype`, with limits."""
    _compare(builder, anchor, limits, dtype, lambda *of: limits_of(*of, length), lambda counts, index, lanes: counts)
    builder.read_at_compile_time(*limits.direction)


def use_turned_limits(builder: Builder, anchor: Tensor, limits: CountLimits, length: int, dtype: str) -> None:
    """Make the quantizer turn what the anchor evaluates to where codes fall, a count of all planes of type `dtype`, and compare it with limits."""
    evaluator = builder.evaluator
    masks = [builder.replace(param, param.size, dtype, lambda flip: as_mask(dtype)(flip.reshape(-1))) for param in limits.direction]

    def turn(counts, index, lanes):
        if not masks:
            return tirx.bitwise_not(counts) if limits.flip.constant < 0 else counts
        mask = builder.body.load(masks[0], index[-1], lanes) if limits.flip.size > 1 else spread(builder.body.load(masks[0], 0), lanes)
        return tirx.bitwise_xor(counts, mask)

    planes = int(anchor.attrs.planes)
    _compare(builder, anchor, limits, dtype, lambda *of: turned_limits_of(*of, length, planes), turn)
    evaluator.define_type(anchor, dtype)


def _compare(builder: Builder, anchor: Tensor, limits: CountLimits, dtype: str, limits_of: Callable, turn: Callable) -> None:
    """Make the quantizer compare turned counts with limits; ``limits_of(thresholds, border, falls)`` gives them."""
    channels, n = limits.quantize.shape[-1], limits.thresholds.shape[0]
    classes = limits.border[0].shape[:2] if limits.border else (1, 1)
    table, repeats = limits.border[:1], limits.quantize.args[0]
    each = int(repeats.attrs.each) if repeats is not anchor else 1

    def arrange(thresholds: np.ndarray, *others: np.ndarray) -> np.ndarray:
        border, flip = (others[0], others[1:]) if table else (np.zeros((1, 1, anchor.shape[-1]), np.int32), others)
        border = border[..., np.arange(channels) // each % anchor.shape[-1]]
        falls = limits.falls(channels, *flip)
        return limits_of(np.broadcast_to(thresholds.reshape(n, -1), (n, channels)), border, falls).astype(dtype).reshape(-1)

    buffer = builder.replace(limits.thresholds, n * classes[0] * classes[1] * channels, dtype, arrange, (*table, *limits.direction))
    builder.read_at_compile_time(*table)
    evaluator = builder.evaluator

    def reached(index, lanes):
        counts = turn(evaluator.value(repeats, index, lanes), index, lanes)
        if n > 1:
            counts = builder.body.keep(counts, dtype, lanes, "count")
        place = [evaluator.value(classes_of, (at,), 1) for classes_of, at in zip(limits.border[1:], index[1:3], strict=True)] if table else [0, 0]
        found = []
        for i in range(n):
            at = linear_index((n, *classes, channels), (i, *place, index[-1]))
            found.append(tirx.LT(counts, builder.body.load(buffer, at, lanes)))
        return found

    evaluator.define_reached(limits.quantize, reached)
