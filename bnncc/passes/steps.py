"""Step functions: where along its input an elementwise chain changes its value, exactly, in float32.

A chain that ends in comparisons, signs or roundings is piecewise constant. Its breakpoints are found operator by operator: a comparison of a
chain that is monotone in its root changes once, and bisection over the ordered float32 numbers finds the very number at which it does; whatever is
computed from step functions alone has breakpoints only where they have. What the function is on each piece is then read off by evaluating the source's own
operators there. So every spelling of a binarization, whatever it does at 0, comes out as thresholds of the form ``x >= t`` with the tie decided as the source decides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

from bnncc.ops import dtype_of, static_shape
from bnncc.passes.chains import Chains
from bnncc.passes.rewrite import op_name

__all__ = ["Steps", "StepAnalysis", "LARGEST", "previous_float"]

LARGEST = np.float32(1e30)
"""Inputs beyond this are not looked at: further out, BatchNorm's own arithmetic overflows."""

_MAX_BREAKS = 512

_INCREASING = frozenset(f"relax.{n}" for n in "floor ceil round tanh sigmoid exp nn.relu clip astype bnn.dequantize".split())
_COMPARISONS = {
    "relax.greater": (np.greater,),
    "relax.less_equal": (np.greater,),
    "relax.greater_equal": (np.greater_equal,),
    "relax.less": (np.greater_equal,),
    "relax.equal": (np.greater_equal, np.greater),
    "relax.not_equal": (np.greater_equal, np.greater),
}


@dataclass
class Steps:
    """A piecewise constant function of one real variable, channel by channel.

    Parameters
    ----------
    breaks : ndarray, float32, shape (n, ...)
        Sorted along axis 0; piece k+1 starts at ``breaks[k]``, which belongs to it; +inf where there is no such piece.
    values : ndarray, shape (n + 1, ...)
        Value on each piece.
    """

    breaks: np.ndarray
    values: np.ndarray


@dataclass
class _Real:
    direction: np.ndarray | None  # +1, -1 or 0 (constant) where the chain is monotone in its root; None: not known


@dataclass
class _Pieces:
    breaks: np.ndarray


def _to_ordered(x: np.ndarray) -> np.ndarray:
    i = x.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(i < 0, -(i & 0x7FFFFFFF) - 1, i)


def _from_ordered(i: np.ndarray) -> np.ndarray:
    bits = np.where(i < 0, (-(i + 1)) | 0x80000000, i).astype(np.uint32)
    return bits.view(np.float32)


def previous_float(x: np.ndarray) -> np.ndarray:
    """Return the largest float32 below `x` (of 0.0 that is -0.0)."""
    return _from_ordered(_to_ordered(x) - 1)


def _first_change(predicate, shape) -> np.ndarray:
    """Return where a monotone predicate first differs from its value at -LARGEST; +inf where it does not."""
    low = np.full(shape, _to_ordered(-LARGEST))
    high = np.full(shape, _to_ordered(LARGEST))
    at_low = predicate(_from_ordered(low))
    changes = predicate(_from_ordered(high)) != at_low
    while np.any(high - low > 1):
        middle = (low + high) >> 1
        same = predicate(_from_ordered(middle)) == at_low
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.where(changes, _from_ordered(high), np.float32(np.inf)).astype(np.float32)


class StepAnalysis:
    """All chains that start at one float32 tensor.

    Parameters
    ----------
    chains : Chains
    root : Var
    """

    def __init__(self, chains: Chains, root: relax.Var):
        self.chains, self.root = chains, root
        self._states: dict[relax.Var, _Real | _Pieces] = {root: _Real(np.ones(()))}

    def steps_of(self, var: relax.Var) -> Steps | None:
        """Return `var` as a step function of the root, or None where it is not known to be one."""
        state = self._state(var)
        if not isinstance(state, _Pieces):
            return None
        shape = self.chains.constant_shape(var, self.root)
        breaks = np.broadcast_to(state.breaks, (len(state.breaks), *shape))
        points = np.concatenate([np.full((1, *shape), -LARGEST), np.minimum(breaks, LARGEST)])
        values = np.array(np.broadcast_to(self._evaluate(var, points), points.shape))
        for k in range(1, len(values)):  # a piece that does not exist repeats the one before it
            values[k] = np.where(np.isfinite(breaks[k - 1]), values[k], values[k - 1])
        return Steps(breaks, values)

    def _state(self, var):
        if var not in self._states:
            for each in self.chains.between(var, self.root):
                if each not in self._states:
                    self._states[each] = self._transfer(each)
        return self._states[var]

    def _transfer(self, var):
        call = self.chains.graph.value(var)
        args = [self._states[a] if self.chains.moves(a) else None for a in call.args]
        moving = [s for s in args if s is not None]
        if all(isinstance(s, _Pieces) for s in moving):
            return self._merge([s.breaks for s in moving])
        if all(isinstance(s, _Real) for s in moving):
            return self._discretize(var, call, args) or _Real(self._direction(call, args))
        return _Real(None)

    def _merge(self, breaks):
        shape = np.broadcast_shapes(*(b.shape[1:] for b in breaks))
        merged = np.sort(np.concatenate([np.broadcast_to(b, (len(b), *shape)) for b in breaks]), axis=0)
        if len(merged) > 1:  # drop what is there twice in every channel
            repeated = np.concatenate([np.zeros((1, *shape), bool), merged[1:] == merged[:-1]])
            merged = np.sort(np.where(repeated, np.float32(np.inf), merged), axis=0)
            merged = merged[: max(1, int(np.isfinite(merged).sum(0).max(initial=0)))]
        return _Pieces(merged) if len(merged) <= _MAX_BREAKS else _Real(None)

    def _discretize(self, var, call, args):
        """Return the pieces of a comparison, sign or bounded rounding of a monotone chain."""
        op = op_name(call)
        if op in ("relax.sign", "relax.bnn.quantize"):
            if args[0].direction is None:
                return None
            limits = (0, 1) if op == "relax.sign" else [call.attrs.lo + call.attrs.step * (i + 1) for i in range(static_shape(call.args[1])[0])]
            predicates = [(var, np.greater_equal, np.float32(v)) for v in limits]
        elif op in _COMPARISONS:
            one = [i for i, s in enumerate(args) if s is not None]
            if len(one) != 1 or args[one[0]].direction is None:
                return None
            constant = self.chains.graph.constant(call.args[1 - one[0]])
            tests = _COMPARISONS[op]
            if one[0] == 1:  # c > x is not (x >= c)
                tests = tuple({np.greater: np.greater_equal, np.greater_equal: np.greater}[t] for t in tests)
            predicates = [(call.args[one[0]], t, constant) for t in tests]
        elif op in ("relax.round", "relax.floor", "relax.ceil") or (op == "relax.astype" and dtype_of(var).startswith(("int", "uint"))):
            if args[0].direction is None:
                return None
            ends = self._evaluate(var, np.array([-LARGEST, LARGEST]).reshape(2, *(1,) * len(static_shape(self.root))))
            low, high = float(np.min(ends)), float(np.max(ends))
            if not high - low < _MAX_BREAKS:
                return None
            predicates = [(var, np.greater_equal, np.float32(v)) for v in np.arange(low + 1, high + 1)]
        else:
            return None
        shape = self.chains.constant_shape(var, self.root)
        if not predicates:
            return _Pieces(np.full((1, *shape), np.inf, np.float32))
        if all(tensor.same_as(var) for tensor, _, _ in predicates):  # all levels of a rounding at once
            limits = np.array([limit for _, _, limit in predicates], np.float32).reshape(-1, *(1,) * len(shape))
            return self._merge([_first_change(lambda x: np.broadcast_to(self._evaluate(var, x) >= limits, x.shape), (len(predicates), *shape))])
        breaks = [
            _first_change(lambda x, t=tensor, f=test, c=limit: np.broadcast_to(f(self._evaluate(t, x[None]), c)[0], shape), shape)
            for tensor, test, limit in predicates
        ]
        return self._merge([np.stack(breaks)])

    def _evaluate(self, var, x):
        return self.chains.evaluate(var, {self.root: x.astype(np.float32)})

    def _direction(self, call, args):
        """Return how the result moves with the root, where that follows from the operator."""
        op = op_name(call)
        d = [s.direction if s is not None else None for s in args]
        constants = [self.chains.graph.constant(a) if s is None else None for a, s in zip(call.args, args, strict=True)]
        if op == "relax.bnn.dequantize":
            return None if d[0] is None else d[0] * np.sign(constants[1])
        if op in _INCREASING:
            return d[0]
        if op == "relax.negative":
            return None if d[0] is None else -d[0]
        if op in ("relax.nn.leakyrelu", "relax.nn.prelu"):
            slope = call.attrs.alpha if op.endswith("leakyrelu") else constants[1]
            return d[0] if d[0] is not None and slope is not None and np.all(np.asarray(slope) >= 0) else None
        if op in ("relax.add", "relax.subtract", "relax.maximum", "relax.minimum", "relax.multiply", "relax.divide"):
            return self._direction_of_two(op, d, args, constants)
        return None

    def _direction_of_two(self, op, d, args, constants):
        if args[0] is not None and args[1] is not None:
            if d[0] is None or d[1] is None or op in ("relax.multiply", "relax.divide"):
                return None
            second = -d[1] if op == "relax.subtract" else d[1]
            agree = np.all((d[0] * second) >= 0)
            return np.sign(d[0] + second) if agree else None
        first = args[0] is not None
        if (d[0] if first else d[1]) is None:
            return None
        if op == "relax.multiply":
            return (d[0] if first else d[1]) * np.sign(constants[1] if first else constants[0])
        if op == "relax.divide":
            return d[0] * np.sign(constants[1]) if first else None
        return d[0] if first else (-d[1] if op == "relax.subtract" else d[1])
