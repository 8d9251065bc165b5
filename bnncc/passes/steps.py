"""Step functions: where along its input an elementwise chain changes its value, exactly, in float32.

A chain that ends in comparisons, signs or roundings is piecewise constant. The analysis keeps, for every tensor of the chain, breakpoints between which it is
monotone in the root, and in which direction. Where a comparison stands, bisection over the ordered float32 numbers finds, piece by piece, the very number at
which it changes; a product with something constant on a piece, a choice, an absolute value all stay monotone on (smaller) pieces. Once every piece is
constant, its value is read off by evaluating the source's own operators there. So every spelling of a binarization, whatever it does at 0, comes out as
thresholds of the form ``x >= t`` with the tie decided as the source decides it. Pieces on which the root's shares cancel are followed as lines (lines.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

from bnncc.ops import dtype_of, static_shape
from bnncc.passes.chains import Chains, applied
from bnncc.passes.lines import LARGEST, NEARER, Lines
from bnncc.passes.rewrite import op_name

__all__ = ["Steps", "StepAnalysis", "previous_float"]

_MAX_BREAKS = 512
_UNKNOWN = np.nan

_INCREASING = frozenset(f"relax.{n}" for n in "floor ceil round tanh sigmoid exp nn.relu clip astype".split())
_LEVELS = frozenset(f"relax.{n}" for n in "sign round floor ceil astype bnn.quantize".split())
_CLIPS = frozenset(("relax.clip", "relax.maximum", "relax.minimum"))
_KINKED = frozenset(("relax.nn.relu", *_CLIPS))
_MONOTONE = frozenset(f"relax.{n}" for n in "add subtract multiply negative greater greater_equal less less_equal sign".split()) | _INCREASING | _CLIPS
_COMPARISONS = {
    "relax.greater": (np.greater,),
    "relax.less_equal": (np.greater,),
    "relax.greater_equal": (np.greater_equal,),
    "relax.less": (np.greater_equal,),
    "relax.equal": (np.greater_equal, np.greater),
    "relax.not_equal": (np.greater_equal, np.greater),
}
_EXCHANGED = {np.greater: np.greater_equal, np.greater_equal: np.greater}  # c > x is not (x >= c)


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
class _Pieces:
    """Breakpoints, (n, ...), and on each of the n + 1 pieces +1 or -1 (monotone in the root), 0 (constant) or NaN (not known), and its line."""

    breaks: np.ndarray
    direction: np.ndarray
    lines: Lines

    @property
    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last number of each piece that are looked at."""
        return _spans(self.breaks, self.lines.reach)


def _to_ordered(x: np.ndarray) -> np.ndarray:
    i = x.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(i < 0, -(i & 0x7FFFFFFF) - 1, i)


def _from_ordered(i: np.ndarray) -> np.ndarray:
    bits = np.where(i < 0, (-(i + 1)) | 0x80000000, i).astype(np.uint32)
    return bits.view(np.float32)


def previous_float(x: np.ndarray) -> np.ndarray:
    """Return the largest float32 below `x` (of 0.0 that is -0.0)."""
    return _from_ordered(_to_ordered(x) - 1)


def _first_change(predicate, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return where in [first, last] a monotone predicate first differs from its value at `first`; +inf where it does not."""
    low, high = _to_ordered(first), _to_ordered(last)
    at_low = predicate(first)
    changes = (predicate(last) != at_low) & (low < high)
    while np.any(high - low > 1):
        middle = (low + high) >> 1
        same = predicate(_from_ordered(middle)) == at_low
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.where(changes, _from_ordered(high), np.float32(np.inf)).astype(np.float32)


def _resample(pieces: _Pieces, breaks: np.ndarray) -> _Pieces:
    """Return the pieces cut at further breakpoints."""
    starts = np.concatenate([np.full((1, *breaks.shape[1:]), -LARGEST, np.float32), breaks])
    index = (pieces.breaks[None] <= starts[:, None]).sum(1)

    def take(array):
        return np.take_along_axis(np.broadcast_to(array, (len(pieces.breaks) + 1, *starts.shape[1:])), index, 0)

    return _Pieces(breaks, take(pieces.direction), pieces.lines.resampled(take))


class StepAnalysis:
    """All chains that start at one float32 tensor.

    Parameters
    ----------
    chains : Chains
    root : Var
    """

    def __init__(self, chains: Chains, root: relax.Var):
        self.chains, self.root = chains, root
        flat = (1,) * len(static_shape(root))
        self._unbounded: set[relax.Var] = set()
        self._bounded: set[relax.Var] = set()  # clips of unbounded roundings
        self._states: dict[relax.Var, _Pieces | None] = {root: _Pieces(np.zeros((0, *flat), np.float32), np.ones((1, *flat)), Lines.root((1, *flat)))}

    def steps_of(self, var: relax.Var) -> Steps | None:
        """Return `var` as a step function of the root, or None where it is not known to be one."""
        state = self._state(var)
        if state is None or not np.all(state.direction == 0):
            return None
        points, _ = state.spans
        values = np.array(np.broadcast_to(self._evaluate(var, points), points.shape))
        changes = np.isfinite(state.breaks) & (values[1:] != values[:-1])  # elsewhere is no piece, or only a kink on the way
        breaks = np.where(changes, state.breaks, np.float32(np.inf))
        order = np.argsort(breaks, axis=0, kind="stable")[: int(changes.sum(0).max(initial=0))]
        breaks, later = (np.take_along_axis(x, order, 0) for x in (breaks, values[1:]))
        values = np.concatenate([values[:1], later])
        for k in range(1, len(values)):  # a piece that does not exist repeats the one before it
            values[k] = np.where(np.isfinite(breaks[k - 1]), values[k], values[k - 1])
        return Steps(breaks, values)

    def _state(self, var):
        if var not in self._states:
            known = all(a in self._states for a in self.chains.graph.value(var).args if self.chains.moves(a))
            for each in [var] if known else self.chains.between(var, self.root):
                if each not in self._states:
                    self._states[each] = self._transfer(each)
        return self._states[var]

    def _transfer(self, var) -> _Pieces | None:
        call = self.chains.graph.value(var)
        moving = {i: self._states[a] for i, a in enumerate(call.args) if self.chains.moves(a)}
        if any(s is None for s in moving.values()):
            return None
        shape = self.chains.constant_shape(var, self.root)
        breaks = _merged([s.breaks for s in moving.values()], shape)
        if any(np.any(s.direction != 0) for s in moving.values()):
            reach = _least_reach({i: _resample(s, breaks) for i, s in moving.items()})
            breaks = self._refined(var, call, moving, breaks, reach)
        if len(breaks) > _MAX_BREAKS:
            return None
        moving = {i: _resample(s, breaks) for i, s in moving.items()}
        with np.errstate(all="ignore"):
            return self._moved(var, call, moving, breaks)

    def _moved(self, var, call, moving, breaks) -> _Pieces:
        """Return how a result moves, from how its operands do, all of them cut alike."""
        reach = _least_reach(moving)
        points, ends = _spans(breaks, reach)
        direction = self._direction(var, call, {i: s.direction for i, s in moving.items()}, points)
        lines = self._lines(call, moving, breaks, points)
        share = self._constant_share(var, call, moving, points, ends)
        lines.reach = np.where(share > 0, share * reach, lines.reach)
        direction = np.where(lines.is_exact | (share > 0), 0, direction)
        direction = np.where(np.isnan(lines.slope) & (lines.reach < LARGEST) & (direction != 0), _UNKNOWN, direction)
        exists = np.concatenate([np.ones((1, *breaks.shape[1:]), bool), np.isfinite(breaks)])
        direction = np.broadcast_to(np.where(exists, direction, 0), points.shape)
        values = Lines.constant(np.broadcast_to(self._evaluate(var, points), points.shape))
        return _Pieces(breaks, direction, values.where(direction == 0, lines))

    def _constant_share(self, var, call, moving, points, ends):
        """Return how far, as a share of the reach, a result is constant although its one operand is only known but for rounding; 0 where it is not."""
        op, (side, *others) = op_name(call), moving
        lines = moving[side].lines
        rounds = lines.is_flat & ~lines.is_exact
        if others or op not in _MONOTONE or (op == "relax.astype" and dtype_of(var) == "bool") or not np.any(rounds):
            return np.float64(0)
        found = np.zeros(points.shape)
        for share in NEARER[::-1]:
            within = lines.interval(np.maximum(np.abs(points), np.abs(ends)), share)
            low, high = (applied(call)([v if i == side else self._argument(a, points) for i, a in enumerate(call.args)]) for v in within)
            found = np.where(rounds & (low == high), share, found)
        return found

    def _lines(self, call, moving, breaks, x) -> Lines:
        """Return the line of each piece of a result, not straight where nothing is known."""
        op = op_name(call)
        lines = {i: s.lines for i, s in moving.items()}
        some = next(iter(lines.values()))
        known = np.logical_and.reduce([~np.isnan(s.direction) | s.lines.is_flat for s in moving.values()])  # else kinks are not where they seem
        value = {i: self._argument(a, x) for i, a in enumerate(call.args)}
        lines |= {i: Lines.constant(v) for i, v in value.items() if i not in lines}
        if op in ("relax.add", "relax.subtract"):
            return lines[0].plus(lines[1], 1 if op == "relax.add" else -1, breaks)
        if op == "relax.negative":
            return some.times(np.float64(-1))
        if op == "relax.abs":
            return some.times(np.where(value[0] >= 0, 1.0, -1.0)).where(known & (~some.is_flat | some.is_exact), some.unknown())
        if op == "relax.multiply":
            by_left, by_right = lines[1].times(value[0].astype(np.float64)), lines[0].times(value[1].astype(np.float64))
            return by_right.where(lines[1].is_exact, by_left.where(lines[0].is_exact, by_left.unknown()))
        if op == "relax.divide":
            quotient = lines[0].times(1 / value[1].astype(np.float64))
            return quotient.where(lines[1].is_exact, quotient.unknown())
        if op == "relax.where":
            return lines[1].where(value[0], lines[2]).where(moving[0].direction == 0 if 0 in moving else np.True_, some.unknown())
        if op in _KINKED and len(moving) == 1:
            return some.bounded(value[min(moving)], *self._bounds(call, x)).where(known, some.unknown())
        return some.unknown()

    def _bounds(self, call, x):
        """Return the least and the largest number that a clip, a maximum or a minimum with something constant, or a ReLU lets through."""
        op, infinite = op_name(call), np.float32(np.inf)
        if op == "relax.nn.relu":
            return np.float32(0), infinite
        limits = [self._argument(a, x) for a in call.args if not self.chains.moves(a)]
        if op == "relax.clip":
            return tuple(np.float32(limit) for limit in limits)
        return (limits[0], infinite) if op == "relax.maximum" else (-infinite, limits[0])

    def _refined(self, var, call, moving, breaks, reach):
        """Add the breakpoints that this operator makes: where a comparison turns over, a level is reached, or a kink is passed."""
        op = op_name(call)
        if op in _COMPARISONS:
            return self._with_changes(breaks, reach, self._comparison(call, moving))
        clipped = op in _CLIPS and any(a in self._unbounded for a in call.args)
        if clipped or op in _LEVELS and (op != "relax.astype" or dtype_of(var).startswith(("int", "uint"))):
            levels = self._levels(var, op, call)
            if levels is not None:
                if clipped:
                    self._bounded.add(var)
                return self._with_changes(breaks, reach, [lambda x: self._at(var, x) >= levels], len(levels)) if len(levels) else breaks
            self._unbounded.add(var)  # an unbounded rounding; monotone all the same
        tests = []
        if op == "relax.astype" and dtype_of(var) == "bool":
            tests = [lambda x: self._at(call.args[0], x) >= 0, lambda x: self._at(call.args[0], x) > 0]
        elif op in ("relax.abs", "relax.nn.prelu", "relax.nn.leakyrelu"):
            tests = [lambda x: self._at(call.args[0], x) >= 0]
        elif op in _KINKED and len(moving) == 1:
            operand, limits = call.args[min(moving)], [b for b in self._bounds(call, None) if np.any(np.isfinite(b))]
            tests = [lambda x, limit=limit: self._at(operand, x) >= limit for limit in limits]
        return self._with_changes(breaks, reach, tests) if tests else breaks

    def _comparison(self, call, moving):
        """Return the monotone tests that a comparison is made of."""
        if len(moving) == 2:
            return [lambda x, t=t: t(self._at(call.args[0], x) - self._at(call.args[1], x), 0) for t in (np.greater_equal, np.greater)]
        (side,) = moving
        limit = self.chains.graph.constant(call.args[1 - side])
        tests = _COMPARISONS[op_name(call)]
        return [lambda x, t=t: t(self._at(call.args[side], x), limit) for t in (tests if side == 0 else tuple(_EXCHANGED[t] for t in tests))]

    def _levels(self, var, op, call):
        """Return the values at which the result counts as one level further, shape (levels, 1, ...); None where there are too many."""
        if op == "relax.sign":
            levels = [0, 1]
        elif op == "relax.bnn.quantize":
            levels = [call.attrs.lo + call.attrs.step * (i + 1) for i in range(static_shape(call.args[1])[0])]
        else:
            starts, ends = self._states[call.args[0]].spans
            reached = self._evaluate(var, np.concatenate([starts, ends]))
            low, high = float(np.min(reached)), float(np.max(reached))
            if not high - low < _MAX_BREAKS:
                return None
            levels = np.union1d(np.arange(np.floor(low) + 1, np.floor(high) + 1), [high] if high > low else [])  # a clip may end between two
        return np.asarray(levels, np.float32).reshape(-1, 1, *(1,) * len(static_shape(self.root)))

    def _with_changes(self, breaks, reach, tests, count: int = 1):
        """Return `breaks` and where, in each piece, one of the tests changes.

        A test takes points of shape (count, pieces, ...) and tells of each whether it passes, by a rule of its own along the first axis.
        """
        starts, ends = (np.broadcast_to(x, (count, *x.shape)) for x in _spans(breaks, reach))
        shape = breaks.shape[1:]
        changes = [_first_change(lambda x, t=t: np.broadcast_to(t(x), x.shape), starts, ends).reshape(-1, *shape) for t in tests]
        return _merged([breaks, *changes], shape)

    def _at(self, var, x):
        """Evaluate where points have two leading axes."""
        values = self._evaluate(var, x.reshape(-1, *x.shape[2:]))
        return np.broadcast_to(values, (x.shape[0] * x.shape[1], *np.broadcast_shapes(values.shape[1:], x.shape[2:]))).reshape(x.shape)

    def _evaluate(self, var, x):
        return self.chains.evaluate(var, {self.root: x.astype(np.float32)})

    def _direction(self, var, call, d, x):
        """Return how the result moves with the root on each piece, from how the operands move and what they are at the piece's start.

        Parameters
        ----------
        d : dict of int to ndarray
            Direction of each operand that moves, piece by piece.
        x : ndarray
            Start of each piece.
        """
        op = op_name(call)
        if op in _COMPARISONS or op.startswith("relax.logical") or op in ("relax.sign", "relax.bnn.quantize"):
            return self._of_comparison(d, len(call.args), op)
        if var in self._bounded:
            return np.where(np.isnan(d[min(d)]), _UNKNOWN, 0)
        if op in _INCREASING:
            rounded = op in _LEVELS and not dtype_of(var).startswith("float") or op in ("relax.round", "relax.floor", "relax.ceil")
            return np.where(np.isnan(d[0]), _UNKNOWN, 0) if rounded and var not in self._unbounded else d[0]
        if op == "relax.negative":
            return -d[0]
        value = {i: self._value(a, x) for i, a in enumerate(call.args)}
        if op == "relax.bnn.dequantize":
            return d[0] * np.sign(value[1])
        if op in ("relax.abs", "relax.nn.leakyrelu", "relax.nn.prelu"):
            slope = -1 if op.endswith("abs") else call.attrs.alpha if op.endswith("leakyrelu") else value[1]
            return np.where(value[0] >= 0, d[0], d[0] * np.sign(slope))
        if op == "relax.where":
            return self._of_choice(d, value)
        if op in ("relax.multiply", "relax.divide"):
            return self._of_product(op, d, value)
        if op in ("relax.add", "relax.subtract", "relax.maximum", "relax.minimum"):
            left, right = d.get(0, np.zeros(1)), d.get(1, np.zeros(1))
            right = -right if op == "relax.subtract" else right
            return np.where(left * right >= 0, np.sign(left + right), _UNKNOWN)
        return np.where(sum(np.abs(v) for v in d.values()) == 0, 0.0, _UNKNOWN)  # anything else: constant where all of its operands are

    @staticmethod
    def _of_comparison(d, arity, op):
        """Return 0 where the result is constant: its changes are breakpoints by now, so it is wherever the test was monotone."""
        if len(d) == 2:  # two moving operands: their difference was bisected, which is right where it is monotone
            left, right = d[0], d[1]
            return np.where(left * right <= 0, 0.0, _UNKNOWN) if op in _COMPARISONS else np.where(left + right == 0, 0.0, _UNKNOWN)
        return np.where(np.isnan(d[min(d)]), _UNKNOWN, 0.0)

    def _of_choice(self, d, value):
        fixed = np.where(d[0] == 0, 0.0, _UNKNOWN) if 0 in d else 0.0  # the condition has to be constant on the piece
        return fixed + np.where(value[0], d.get(1, np.zeros(1)), d.get(2, np.zeros(1)))

    @staticmethod
    def _of_product(op, d, value):
        left, right = d.get(0, np.zeros(1)), d.get(1, np.zeros(1))
        by_left = left * np.sign(value[1])  # right is constant on the piece
        by_right = right * np.sign(value[0]) if op == "relax.multiply" else _UNKNOWN
        return np.where(right == 0, by_left, np.where(left == 0, by_right, _UNKNOWN))

    def _value(self, arg, x):
        return self._evaluate(arg, x) if self.chains.moves(arg) else self.chains.graph.constant(arg)

    def _argument(self, arg, x):
        """Return the value of an operand at the given points, of a literal bound as of a tensor."""
        value = self._value(arg, x) if self.chains.moves(arg) or self.chains.graph.constant(arg) is not None else arg.value
        return np.asarray(value)


def _least_reach(moving: dict[int, _Pieces]) -> np.ndarray:
    """Return how far each piece of operands that are cut alike is looked at."""
    return np.minimum.reduce([s.lines.reach for s in moving.values()])


def _spans(breaks: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last number of each piece that are looked at."""
    edge = np.full((1, *breaks.shape[1:]), LARGEST, np.float32)
    starts = np.concatenate([-edge, np.minimum(breaks, LARGEST)])
    ends = np.concatenate([np.where(breaks < LARGEST, previous_float(np.minimum(breaks, LARGEST)), LARGEST), edge])
    reach = reach.astype(np.float32)
    starts, ends = (np.clip(x, -reach, reach) for x in (starts, ends))
    return starts, np.maximum(starts, ends)


def _merged(breaks: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return all breakpoints, sorted, each once."""
    merged = np.sort(np.concatenate([np.broadcast_to(b, (len(b), *shape)) for b in breaks]), axis=0)
    if len(merged) > 1:
        repeated = np.concatenate([np.zeros((1, *shape), bool), merged[1:] == merged[:-1]])
        merged = np.sort(np.where(repeated, np.float32(np.inf), merged), axis=0)
    return merged[: int(np.isfinite(merged).sum(0).max(initial=0))]
