"""Codes as a function of an integer, channel by channel, and the integer thresholds that say the same.

The function is a number of pieces, each a span of integers that give one code: every integer by itself where all of them were tried, or what the analysis of
steps finds by bisection, which costs the logarithm of the range and is a proof as well, since a piece is monotone by construction.
"""

from __future__ import annotations

from collections.abc import Callable
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
        Codes at the end of a chain that starts by turning `root` into float32, if need be by way of scaled float64.
    """
    real = _first_real(chains, var, root)
    found = StepAnalysis(chains, real).steps_of(var) if real is not None else None
    if found is None:
        return None

    def real_of(integers: np.ndarray) -> np.ndarray:
        return chains.evaluate(real, {root: integers.astype(np.int32)})

    first = _first_integer(found.breaks, real_of, low, high)
    shape = np.broadcast_shapes(first.shape[1:], found.values.shape[1:])
    changes = np.broadcast_to(first, (len(first), *shape))
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


def _first_real(chains: Chains, var: relax.Var, root: relax.Var) -> relax.Var | None:
    """Return the float32 tensor that stands for the integers of `root` on the way to `var`, never falling where they rise; None where there is no such one."""
    way = chains.between(var, root)
    starts = [v for v in way if any(a.same_as(root) for a in chains.graph.value(v).args)]
    if len(starts) != 1 or op_name(chains.graph.value(starts[0])) != "relax.astype":
        return None
    real = starts[0]
    while dtype_of(real) == "float64":  # scaled there, by what is not negative, and shifted
        users = [user for user in chains.graph.users(real) if user in way]
        call = chains.graph.value(users[0])
        constants = [a for a in map(chains.graph.constant, call.args) if a is not None]
        if len(users) != 1 or not (op_name(call) in ("relax.add", "relax.astype") or op_name(call) == "relax.multiply" and np.all(constants[0] >= 0)):
            return None
        real = users[0]
    return real if dtype_of(real) == "float32" else None


def _first_integer(breaks: np.ndarray, real_of: Callable[[np.ndarray], np.ndarray], low: int, high: int) -> np.ndarray:
    """Return the least integer whose float32 is not below each break, within [low, high + 1], int64.

    Parameters
    ----------
    breaks : ndarray, float32, shape (n, ...)
    real_of : callable
        The float32 that stands for integers of shape (n, ...), which does not fall where they rise.
    """
    reached = real_of(np.full(breaks.shape, low)) >= breaks
    below, above = np.broadcast_to(np.int64(low), reached.shape), np.broadcast_to(np.int64(high + 1), reached.shape)
    while np.any(above - below > 1):
        middle = (above + below) >> 1
        there = real_of(middle) >= breaks
        above, below = np.where(there, middle, above), np.where(there, below, middle)
    return np.where(reached, low, above)


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
