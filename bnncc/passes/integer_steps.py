"""Codes as a function of an integer, channel by channel, and the integer thresholds that say the same.

The function is a number of pieces, each a span of integers that give one code: every integer by itself where all of them were tried, or what the analysis of
steps finds by bisection, which costs the logarithm of the range and is a proof as well, since a piece is monotone by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

from bnncc.ops import dtype_of
from bnncc.passes.chains import Chains
from bnncc.passes.rewrite import op_name
from bnncc.passes.steps import StepAnalysis

__all__ = ["IntegerSteps", "bisect_integers", "integer_thresholds", "NEVER"]

NEVER = 1 << 29
"""Integer threshold that no accumulator reaches (twice it still fits int32)."""

_COARSEST = 1 << 8
"""No int32 is further than this from the float32 it is rounded to."""


@dataclass
class IntegerSteps:
    """A piecewise constant function of an integer.

    Parameters
    ----------
    starts, ends : ndarray, int, shape (n, ...)
        First and last integer of each piece, ascending; an empty piece starts behind its end.
    codes : ndarray, int, shape (n, ...)
        Of an empty piece the code of its neighbour.
    """

    starts: np.ndarray
    ends: np.ndarray
    codes: np.ndarray

    def takes(self, code: int) -> bool:
        """Tell whether an integer gives this code in any channel."""
        return bool(np.any((self.codes == code) & (self.starts <= self.ends)))


def bisect_integers(chains: Chains, var: relax.Var, root: relax.Var, low: int, high: int) -> IntegerSteps | None:
    """Return `var` as a function of the int32 tensor `root` on [low, high]; None where the chain between them is not known to be one of steps.

    Parameters
    ----------
    chains : Chains
    var : Var
        Codes at the end of a chain that starts by turning `root` into float32.
    """
    reals = [v for v in chains.between(var, root) if any(a.same_as(root) for a in chains.graph.value(v).args)]
    if len(reals) != 1 or op_name(chains.graph.value(reals[0])) != "relax.astype" or dtype_of(reals[0]) != "float32":
        return None
    found = StepAnalysis(chains, reals[0]).steps_of(var)
    if found is None:
        return None
    shape = np.broadcast_shapes(found.breaks.shape[1:], found.values.shape[1:])
    changes = np.broadcast_to(_first_integer(found.breaks, low, high), (len(found.breaks), *shape))
    edge = np.full((1, *shape), low, np.int64)
    starts, ends = np.concatenate([edge, changes]), np.concatenate([changes, edge - low + high + 1]) - 1
    codes = np.array(np.broadcast_to(found.values, starts.shape)).astype(np.int64)
    exists = starts <= ends
    first = np.take_along_axis(codes, np.argmax(exists, axis=0)[None], 0)
    previous = first[0]
    for code, there in zip(codes, exists, strict=True):
        np.copyto(code, previous, where=~there)
        previous = code
    return IntegerSteps(starts, ends, codes)


def _first_integer(breaks: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the least integer whose float32 is not below each break, within [low, high + 1], int64."""
    above = np.clip(np.ceil(np.nan_to_num(breaks.astype(np.float64), posinf=high + 1.0)), low, high + 1).astype(np.int64)
    below = above - _COARSEST  # beyond 2^24 several integers share a float32
    while np.any(above - below > 1):
        middle = (above + below) >> 1
        reached = middle.astype(np.float32) >= breaks
        above, below = np.where(reached, middle, above), np.where(reached, below, middle)
    return np.maximum(above, low)


def integer_thresholds(steps: IntegerSteps, lo: int, step: int, top: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the thresholds and directions of the ``bnn.quantize`` that gives the same codes; None where a channel neither only rises nor only falls.

    Parameters
    ----------
    steps : IntegerSteps
    lo, step, top : int
        The codes are ``lo, lo + step, ..., lo + top * step``.

    Returns
    -------
    thresholds : ndarray, int32, shape (top, ...), leading axes of size 1 dropped
    flip : ndarray, int8
    """
    count = (steps.codes - lo) // step
    rising, falling = np.all(np.diff(count, axis=0) >= 0, axis=0), np.all(np.diff(count, axis=0) <= 0, axis=0)
    if not np.all(rising | falling):
        return None
    starts, ends = np.broadcast_to(steps.starts, count.shape), np.broadcast_to(steps.ends, count.shape)
    thresholds = []
    for level in range(1, top + 1):
        reached = count >= level
        any_reached = reached.any(0)
        first, last = np.argmax(reached, axis=0), len(count) - 1 - np.argmax(reached[::-1], axis=0)
        rise = np.where(any_reached, np.where(first == 0, -NEVER, np.take_along_axis(starts, first[None], 0)[0]), NEVER)
        fall = np.where(any_reached, np.where(last == len(count) - 1, NEVER, np.take_along_axis(ends, last[None], 0)[0]), -NEVER)
        thresholds.append(np.where(rising, rise, fall))
    flip = np.where(rising, 1, -1).astype(np.int8)
    thresholds = np.stack(thresholds).astype(np.int32)
    while thresholds.ndim > 2 and thresholds.shape[1] == 1:
        thresholds, flip = thresholds[:, 0], flip[0]
    return thresholds, flip
