"""RecogniseQuantize: whatever takes few values as a function of one real tensor becomes codes: two (or three: a plain Sign) always, more in front of layers.

The chain is analysed (steps.py), not matched, and it reaches as far back as it stays elementwise: a BatchNorm before the sign is in the threshold, with
the tie where the source's own float32 arithmetic has it::

    a = multiply(x, gamma)              c = bnn.quantize(x, thresholds, flip)
    b = add(a, beta)             ->     y = bnn.dequantize(c, 1, 0)
    y = sign(b)

Up to 8 levels are thresholds. A comparison a threshold and element costs more than the source's own rounding from there on, so that stays, and what follows
it gives the codes exactly, since only the levels themselves can arrive::

    y = multiply(round(clip(x)), s)     ->     c = astype(clip(round(multiply(y, 1 / s)), lo, hi), "int8");  y' = bnn.dequantize(c, s, 0)

Three or four uneven levels in front of layers alone (ReBNet's residual signs, LQ-Net's learned bases) are a sum of two signs: the larger one is the
middle threshold, the smaller one the parity of all three::

    y = add(g1 * s1, g2 * s2)     ->     y = add(bnn.dequantize(q2, g1, o), bnn.dequantize(bnn.logic(q1, q2, q3, parity), g2, 0))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn, dtype_of, is_bnn
from bnncc.passes.chains import ChainRewriter, Chains
from bnncc.passes.context import PassContext
from bnncc.passes.integers import Levels, even_levels
from bnncc.passes.planes import LevelPlanes, level_planes
from bnncc.passes.rewrite import REAL_LAYERS, Builder, Graph, const, op_name
from bnncc.passes.steps import StepAnalysis, Steps, previous_float

__all__ = ["recognise_quantize", "Quantizer", "channel_form", "code_quantizer", "feeds_layer", "level_quantizer", "pads", "quantizer_of"]


_MOST_THRESHOLDS = 7

_MOVEMENT = frozenset(f"relax.{n}" for n in "reshape permute_dims strided_slice expand_dims squeeze take concat nn.pad nn.max_pool2d image.resize2d".split())


@dataclass
class Quantizer:
    """Thresholds and levels read off a step function.

    Parameters
    ----------
    thresholds : ndarray, float32, shape (n, ...)
    flip : ndarray, int8
    lo, step : int
        Codes, as ``bnn.quantize`` makes them.
    scale, offset : ndarray, float32
        Value of a code: ``code * scale + offset``.
    """

    thresholds: np.ndarray
    flip: np.ndarray
    lo: int
    step: int
    scale: np.ndarray
    offset: np.ndarray


def level_indices(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the level number of each piece and the levels, smallest first, shared by all channels or a set for each; None beyond 3 of them.

    Parameters
    ----------
    values : ndarray, shape (pieces, ...)

    Returns
    -------
    indices : ndarray, int, shape of values
    levels : ndarray, float32, shape (levels, ...) or (levels, 1, ...)
    """
    common = np.unique(values)
    if len(common) <= 3:
        return np.searchsorted(common, values), common.reshape(-1, *(1,) * (values.ndim - 1)).astype(np.float32)
    low, high = values.min(0), values.max(0)
    if np.all((values == low) | (values == high)):
        return (values > low).astype(int), np.stack([low, high]).astype(np.float32)
    return None


def quantizer_of(steps: Steps) -> Quantizer | None:
    """Return thresholds and codes for a step function of two levels, or of three evenly spaced ones; None for any other."""
    if not np.isfinite(steps.values).all():
        return None
    found = level_indices(steps.values)
    if found is None:
        return None
    return _thresholds(steps, *found)


def _thresholds(steps: Steps, index: np.ndarray, levels: np.ndarray, slack: float = 0.0) -> Quantizer | None:
    if len(levels) == 2:
        lo, step = -1, 2
        scale, offset = (levels[1] - levels[0]) / 2, (levels[1] + levels[0]) / 2
    elif len(levels) == 3 and np.all(np.abs((levels[2] - levels[1]) - (levels[1] - levels[0])) <= slack):
        lo, step = -1, 1
        scale, offset = (levels[2] - levels[1] if slack == 0 else (levels[2] - levels[0]) / 2), levels[1]
    else:
        return None
    return _by_direction(steps, index, len(levels), lo, step, scale, offset)


def level_quantizer(steps: Steps, levels: Levels) -> Quantizer | None:
    """Return thresholds and codes for evenly spaced levels; None where a channel is not monotone, or thresholds are so many that arithmetic is cheaper."""
    if len(levels.values) > _MOST_THRESHOLDS + 1:
        return None
    lo, step = int(levels.codes[0]), int(levels.codes[1] - levels.codes[0])
    return _by_direction(steps, np.searchsorted(levels.values, steps.values), len(levels.values), lo, step, levels.scale, levels.offset)


def code_quantizer(steps: Steps, lo: int, step: int, thresholds: int) -> Quantizer | None:
    """Return the quantizer whose codes a step function takes, with the thresholds by channel; None where a channel is not monotone."""
    index = (steps.values.astype(np.int64) - lo) // step
    q = _by_direction(steps, index, thresholds + 1, lo, step, np.float32(1), np.float32(0))
    return q and replace(q, thresholds=np.stack([channel_form(t) for t in q.thresholds]), flip=channel_form(q.flip))


def _nearly_even(graph: Graph, var: relax.Var, steps: Steps) -> Quantizer | None:
    """Return the quantizer of a plain Sign's three levels that float32 rounded unevenly (AdaBin's a * (sign + b)), where layers alone read it; else None.

    Layers sum codes exactly and multiply afterwards; what a level is off by stays below what the source's own float sums round away.
    """
    if not _read_by_layers_alone(graph, var) or not np.isfinite(steps.values).all():
        return None
    levels = np.unique(steps.values)
    if len(levels) != 3:
        return None
    return _thresholds(steps, np.searchsorted(levels, steps.values), levels.astype(np.float32), 4 * float(np.spacing(np.abs(levels).max().astype(np.float32))))


def _read_by_layers_alone(graph: Graph, var: relax.Var) -> bool:
    users = graph.users(var)
    return not graph.is_output(var) and bool(users) and all(graph.op(u) in REAL_LAYERS for u in users)


@dataclass
class _UnevenPlanes:
    """Thresholds between uneven levels, and the signs that the levels are sums of."""

    thresholds: Quantizer
    planes: LevelPlanes


_Found = tuple[relax.Var, Quantizer | Levels | _UnevenPlanes]
"""Where a quantizer's thresholds compare, and what it makes of it."""


def _uneven_planes(graph: Graph, var: relax.Var, steps: Steps) -> _UnevenPlanes | None:
    """Return the signs that a tensor of uneven levels is a sum of, where layers alone read it; else None."""
    if not _read_by_layers_alone(graph, var) or not np.isfinite(steps.values).all():
        return None
    levels = np.unique(steps.values).astype(np.float64)
    planes = level_planes(levels, 1e-6 * np.abs(levels).max()) if len(levels) in (3, 4) else None
    if planes is None:
        return None
    index = np.searchsorted(levels, steps.values.astype(np.float64))
    thresholds = _by_direction(steps, index, len(levels), 0, 1, np.float32(1), np.float32(0))
    return _UnevenPlanes(thresholds, planes) if thresholds is not None else None


def _by_direction(steps, index, count, lo, step, scale, offset) -> Quantizer | None:
    rising = np.all(np.diff(index, axis=0) >= 0, axis=0)
    falling = np.all(np.diff(index, axis=0) <= 0, axis=0)
    if not np.all(rising | falling):
        return None
    flip = np.where(rising, 1, -1).astype(np.int8)
    never, thresholds = np.float32(np.inf), []
    for level in range(1, count):
        above = index >= level
        up = np.where(above.any(0), np.argmax(above, axis=0), -1)  # first piece that reaches the level
        at_or_below = np.where(above.any(0), len(above) - 1 - np.argmax(above[::-1], axis=0), -1)  # last one, where it falls
        starts = np.concatenate([np.full((1, *flip.shape), -np.inf, np.float32), steps.breaks])
        ends = np.concatenate([steps.breaks, np.full((1, *flip.shape), np.inf, np.float32)])
        rise = np.where(up < 0, never, np.take_along_axis(starts, np.maximum(up, 0)[None], 0)[0])
        end = np.take_along_axis(ends, np.maximum(at_or_below, 0)[None], 0)[0]
        fall = np.where(at_or_below < 0, -never, np.where(np.isfinite(end), previous_float(np.where(np.isfinite(end), end, 0)), never))
        thresholds.append(np.where(rising, rise, fall).astype(np.float32))
    return Quantizer(np.stack(thresholds), flip, lo, step, scale.astype(np.float32), offset.astype(np.float32))


def channel_form(array: np.ndarray) -> np.ndarray:
    """Drop leading axes of size 1, and everything where only one value is left."""
    if array.size == 1:
        return array.reshape(())
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array


def feeds_layer(graph: Graph, var: relax.Var) -> bool:
    """Tell whether a tensor reaches a convolution or matrix product through data movement and pools."""
    for user in graph.users(var):
        name = op_name(graph.value(user))
        if name in REAL_LAYERS or name in _MOVEMENT and feeds_layer(graph, user):
            return True
    return False


def pads(graph: Graph, var: relax.Var) -> bool:
    """Tell whether a tensor is padded with a constant, by a convolution or in front of one."""
    for user in graph.users(var):
        call = graph.value(user)
        name = op_name(call)
        if name == "relax.nn.conv2d" and any(int(p) for p in call.attrs.padding) or name == "relax.nn.pad" and call.attrs.pad_mode == "constant":
            return True
        if name in _MOVEMENT and pads(graph, user):
            return True
    return False


def _joins_codes(chains: Chains, var: relax.Var, steps: dict[relax.Var, Steps]) -> bool:
    """Tell whether a tensor is added to, or subtracted from, another one of evenly spaced levels: then both are codes, and their sum is one of integers."""
    for user in chains.graph.users(var):
        made = chains.graph.value(user)
        if op_name(made) in ("relax.add", "relax.subtract") and not made.args[0].same_as(made.args[1]):
            if all(a in steps and even_levels(steps[a].values) is not None for a in made.args):
                return True
    return False


def _nearer_steps(chains: Chains, var: relax.Var) -> Iterator[tuple[relax.Var, Steps]]:
    """Yield tensors further down the chain than its root of which `var` is a step function (a sign behind a PReLU that turns over)."""
    root = chains.root[var]
    for middle in _passed_by_all(chains, var, root):
        if dtype_of(middle) == "float32":
            found = StepAnalysis(chains, middle).steps_of(var)
            if found is not None:
                yield middle, found


def _passed_by_all(chains: Chains, var: relax.Var, root: relax.Var) -> list[relax.Var]:
    """Return the tensors that every path from `root` to `var` passes: in order of computation, nothing in front of them is read behind them."""
    order = chains.between(var, root)
    last_use: dict[relax.Var, int] = {}
    for place, each in enumerate(order):
        last_use.update((arg, place) for arg in chains.graph.value(each).args if isinstance(arg, relax.Var))
    passed, open_until = [], last_use.get(root, 0)
    for place, each in enumerate(order[:-1]):
        if open_until <= place:
            passed.append(each)
        open_until = max(open_until, last_use[each])
    return passed


def _quantizer(chains: Chains, var: relax.Var, root: relax.Var, found: Steps, steps: dict[relax.Var, Steps]) -> _Found | None:
    """Return how `var`, a step function of `root`, becomes codes; None where it does not."""
    graph = chains.graph
    quantizer = quantizer_of(found)
    if quantizer is not None:
        return root, quantizer
    for middle, nearer in _nearer_steps(chains, var):
        if (quantizer := quantizer_of(nearer)) is not None:
            return middle, quantizer
    if dtype_of(var) != "float32":
        return None
    levels = even_levels(found.values, _read_by_layers_alone(graph, var)) if feeds_layer(graph, var) or _joins_codes(chains, var, steps) else None
    if levels is not None:
        return root, level_quantizer(found, levels) or levels
    uneven = _nearly_even(graph, var, found) or _uneven_planes(graph, var, found)
    return None if uneven is None else (root, uneven)


def _find(chains: Chains, ctx: PassContext) -> dict[relax.Var, _Found]:
    """Return, for each tensor to replace, its root and quantizer."""
    graph = chains.graph
    analyses: dict[relax.Var, StepAnalysis] = {}
    steps: dict[relax.Var, Steps] = {}
    result: dict[relax.Var, _Found] = {}
    for b in graph.bindings:
        root = chains.root[b.var]
        if root.same_as(b.var) or dtype_of(root) != "float32":
            continue
        found = analyses.setdefault(root, StepAnalysis(chains, root)).steps_of(b.var)
        if found is not None:
            steps[b.var] = found
        elif dtype_of(b.var) == "float32" and not is_bnn(b.value, "dequantize") and feeds_layer(graph, b.var):
            # what the root's function is is not known, as behind a hard swish; that of something nearer may be
            made = (_quantizer(chains, b.var, middle, nearer, steps) for middle, nearer in _nearer_steps(chains, b.var))
            if (first := next(filter(None, made), None)) is not None:
                result[b.var] = first
    wanted: set[relax.Var] = set()  # operands of what is no quantizer as a whole: a window, say, is a function of two signs
    for var, found in reversed(steps.items()):
        users = graph.users(var)
        inner = users and not graph.is_output(var) and all(u in steps and chains.root[u].same_as(chains.root[var]) for u in users)
        if inner and var not in wanted or dtype_of(var) not in ("float32", "bool") or is_bnn(graph.value(var), "dequantize"):
            continue  # a dequantize is what this pass makes
        made = _quantizer(chains, var, chains.root[var], found, steps)
        if made is not None:
            result[var] = made
            continue
        wanted.update(a for a in graph.value(var).args if a in steps)
        ctx.levels[var.name] = len(np.unique(found.values))
    return result


class _Recognise(ChainRewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod, ctx)
        self.found = _find(self.chains, ctx)

    def rewrite(self, var, value, builder: Builder):
        if var not in self.found:
            return None
        root, q = self.found[var]
        if isinstance(q, Levels):
            return self._rounded(var, value, q, builder)
        if isinstance(q, _UnevenPlanes):
            return self._sum_of_signs(var, root, q, builder)
        thresholds = np.stack([channel_form(t) for t in q.thresholds])
        code = bnn.quantize(
            self.mapping.get(root, root), const(thresholds), const(channel_form(q.flip)), q.lo, q.step, q.step == 1 and self._is_sign(var, root)
        )
        code = builder.emit(code, f"{var.name}_code")
        scale, offset = channel_form(q.scale), channel_form(q.offset)
        view = self.ctx.tensors.get(var.name)
        if view is not None and scale.ndim == 0 and offset.ndim == 0:
            self.ctx.tensors[code.name] = view.rescaled(float(scale), float(offset))
        if dtype_of(var) == "bool":
            return op.greater(builder.emit(bnn.dequantize(code, const(scale), const(offset)), f"{var.name}_f32"), const(np.float32(0.5)))
        return bnn.dequantize(code, const(scale), const(offset))

    def _sum_of_signs(self, var, root, q: _UnevenPlanes, builder):
        """Build each sign from the comparisons with all thresholds, and the levels as their sum."""
        x, flip = self.mapping.get(root, root), const(channel_form(q.thresholds.flip))
        tests = [builder.emit(bnn.quantize(x, const(channel_form(t)[None]), flip), f"{var.name}_test") for t in q.thresholds.thresholds]
        rows = np.arange(1 << len(tests))
        level = len(tests) - sum(rows >> i & 1 for i in range(len(tests)))  # bit i of a row is set where test i fails
        terms = []
        for p, (signs, scale) in enumerate(zip(q.planes.signs, q.planes.scales, strict=True)):
            changes = np.flatnonzero(np.diff(signs))
            parity = bnn.logic(*tests, table=signs[level].tolist())
            code = tests[changes[0]] if len(changes) == 1 else builder.emit(parity, f"{var.name}_plane")
            offset = np.float32(q.planes.offset if p == 0 else 0)
            if var.name in self.ctx.tensors:
                heights = q.planes.offset + q.planes.scales @ q.planes.signs
                self.ctx.tensors[code.name] = replace(self.ctx.tensors[var.name], levels=tuple(zip(heights.tolist(), signs.tolist(), strict=True)))
            terms.append(builder.emit(bnn.dequantize(code, const(np.float32(scale)), const(offset)), f"{var.name}_term"))
        return op.add(*terms)

    def _is_sign(self, var, root) -> bool:
        """Tell whether a third level comes from a Sign, rather than from a rounding."""
        return any(self.graph.op(v) == "relax.sign" for v in self.chains.between(var, root))

    def _rounded(self, var, value, levels: Levels, builder):
        """Keep the source's own rounding and turn each level into its code."""
        whole = builder.emit(value, f"{var.name}_real")
        if levels.offset:
            whole = builder.emit(op.subtract(whole, const(levels.offset)), f"{var.name}_shifted")
        if levels.offset or levels.scale != 1:  # else the levels are their own codes
            inverse = np.float32(1 / np.float64(levels.scale))
            steps = builder.emit(op.multiply(whole, const(inverse)), f"{var.name}_steps")
            whole = builder.emit(op.round(steps), f"{var.name}_whole")
        bounded = builder.emit(op.clip(whole, int(levels.codes[0]), int(levels.codes[-1])), f"{var.name}_bounded")  # tells the range to what reads the codes
        code = builder.emit(op.astype(bounded, levels.dtype), f"{var.name}_code")
        if levels.dtype == "uint8":
            self.ctx.unsigned_codes.add(code.name)
        view = self.ctx.tensors.get(var.name)
        if view is not None:
            self.ctx.tensors[code.name] = view.rescaled(float(levels.scale), float(levels.offset))
        return bnn.dequantize(code, const(levels.scale), const(levels.offset))


def recognise_quantize(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Replace elementwise functions of a real tensor that take few values by quantize and dequantize."""
    return _Recognise(mod, ctx).run()
