"""Elementwise chains: which tensors are a function, element by element, of one other tensor, and what that function is.

Much of recognition asks one question: "as a function of that accumulator (or feature map), what values does this tensor take?" A chain answers it
by evaluation, not by patterns: constants are applied as the source would, in float32, to any points one likes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import is_bnn, reference, static_shape
from bnncc.ops.interpreter import evaluate_elementwise
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import ContextRewriter, Graph, op_name

__all__ = ["ELEMENTWISE", "ChainRewriter", "Chains", "applied"]

_PLANS = 64  # that are kept: of a chain of n operators they take n² entries, and one bisection asks for a few
_UNARY = "negative abs sign floor ceil round sqrt exp log tanh sigmoid clip nn.relu nn.leakyrelu logical_not astype"
_BINARY = "add subtract multiply divide power maximum minimum greater greater_equal less less_equal equal not_equal"
_LOGICAL = "logical_and logical_or logical_xor where nn.prelu bnn.quantize bnn.dequantize"
ELEMENTWISE = frozenset("relax." + name for name in f"{_UNARY} {_BINARY} {_LOGICAL}".split())


class Chains:
    """The elementwise chains of a straight-line graph.

    Parameters
    ----------
    graph : Graph

    Attributes
    ----------
    root : dict of Var to Var
        For each tensor the one its chain starts at: itself where it is computed by anything else than an elementwise operator, or from
        several tensors.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._shapes: dict[tuple, tuple[int, ...]] = {}
        self._calls: dict[relax.Var, tuple[Callable, list]] = {}
        self._plans: dict[tuple, tuple[list, list, int]] = {}
        self.root: dict[relax.Var, relax.Var] = {p: p for p in graph.params}
        for b in graph.bindings:
            self.root[b.var] = self._root_of(b.var, b.value)

    def _root_of(self, var, value):
        if op_name(value) not in ELEMENTWISE or (op_name(value) == "relax.nn.prelu" and not _prelu_axis_is_last(value)):
            return var
        sources = [a for a in value.args if self.moves(a)]
        roots = {self.root[a] for a in sources}
        same_shape = all(static_shape(a) == static_shape(var) for a in sources)
        return roots.pop() if len(roots) == 1 and same_shape else var

    def evaluate(self, var: relax.Var, points: dict[relax.Var, np.ndarray]) -> np.ndarray:
        """Evaluate `var` where the tensors in `points` take the given values.

        Parameters
        ----------
        var : Var
        points : dict of Var to ndarray
            Values, with one leading axis more than the tensor has, and size 1 along the axes that no constant varies along. Every path back
            from `var` has to end in one of them or in a constant.

        Returns
        -------
        ndarray, shape (points, ...), broadcast over the constants met.
        """
        key = (var, *points)
        if key not in self._plans:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[key] = self._plan(var, points)
        constants, steps, result = self._plans[key]
        values = [*points.values(), *constants]
        with np.errstate(all="ignore"):
            for place, apply, operands in steps:
                values[place] = apply([values[i] for i in operands])
        return values[result]

    def _plan(self, var, points) -> tuple[list, list, int]:
        """Return the values that follow those of `points` in a list, None where a step fills them in; the steps; and the place of `var` in that list.

        A step is the place it fills, what it applies, and the places of its operands. A bisection evaluates one chain thirty times, and asking TVM for the
        operators and operands of a call takes longer than computing it.
        """
        values, steps, places = [], [], {p: i for i, p in enumerate(points)}

        def add(value) -> int:
            values.append(value)
            return len(points) + len(values) - 1

        def place_of(tensor) -> int:
            if tensor not in places:
                apply, operands = self._call(tensor)
                operands = [place_of(o) if isinstance(o, relax.Var) else add(o) for o in operands]
                places[tensor] = add(None)
                steps.append((places[tensor], apply, operands))
            return places[tensor]

        array = self.graph.constant(var)
        result = place_of(var) if array is None else add(array)
        return values, steps, result

    def _call(self, var) -> tuple[Callable, list]:
        """Return what computes a tensor, and its operands: variables, and the values of constants and of literals."""
        if var not in self._calls:
            call = self.graph.value(var)
            self._calls[var] = (applied(call), [a if self.moves(a) else self._literal(a) for a in call.args])
        return self._calls[var]

    def _literal(self, arg):
        array = self.graph.constant(arg)
        return arg.value if array is None else array  # the bounds of clip are no tensors

    def moves(self, arg: relax.Expr) -> bool:
        """Tell whether an operand is a tensor computed at run time, rather than a constant or a literal."""
        return isinstance(arg, relax.Var) and self.graph.constant(arg) is None

    def constant_shape(self, var: relax.Var, roots: relax.Var | tuple[relax.Var, ...]) -> tuple[int, ...]:
        """Return the shape, of the tensor's rank, that the constants on the way from `roots` to `var` broadcast to."""
        stop = (roots,) if isinstance(roots, relax.Var) else tuple(roots)

        def shape_of(each):
            key = (each, *stop)
            if key not in self._shapes:
                shapes = [(1,) * len(static_shape(var))]
                call = None if each in stop else self.graph.value(each)
                for i, arg in enumerate(() if call is None else call.args):
                    array = self.graph.constant(arg)
                    if array is not None:
                        shapes.append(array.shape[1:] if op_name(call) == "relax.bnn.quantize" and i == 1 else array.shape)
                    elif isinstance(arg, relax.Var):
                        shapes.append(shape_of(arg))
                self._shapes[key] = np.broadcast_shapes(*shapes)
            return self._shapes[key]

        return shape_of(var)

    def between(self, var: relax.Var, roots: relax.Var | tuple[relax.Var, ...], keep_roots: bool = False) -> list[relax.Var]:
        """Return the tensors on the way from `roots` (left out) to `var` (included), in order of computation.

        With `keep_roots` a path that avoids `roots` ends at the root of its chain, which is then among what is returned.
        """
        stop = {roots} if isinstance(roots, relax.Var) else set(roots)
        order: list[relax.Var] = []
        seen = set(stop)

        def visit(each):
            if each in seen or not self.moves(each):
                return
            seen.add(each)
            for arg in () if keep_roots and self.root[each].same_as(each) else self.graph.value(each).args:
                visit(arg)
            order.append(each)

        visit(var)
        return order


def applied(call: relax.Call) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Return what evaluates one elementwise operator as the source does; operands have one leading axis of points more than the tensors, or are constants."""
    name, attrs = op_name(call), call.attrs
    if name == "relax.nn.prelu":
        return lambda args: np.where(args[0] >= 0, args[0], args[0] * args[1])
    if name == "relax.bnn.quantize":
        meaning = reference(name)
        return lambda args: meaning(attrs, args[0], _behind_points(args[1], args[0].ndim), args[2])
    if is_bnn(call):
        meaning = reference(name)
        return lambda args: meaning(attrs, *args)
    return lambda args: evaluate_elementwise(name, attrs, *args)


def _behind_points(thresholds: np.ndarray, rank: int) -> np.ndarray:
    """Return thresholds with the axis of points between their own and the rest."""
    return thresholds.reshape(thresholds.shape[0], *(1,) * (rank - thresholds.ndim + 1), *thresholds.shape[1:])


def _prelu_axis_is_last(call) -> bool:
    rank = len(static_shape(call.args[0]))
    return call.attrs.axis % rank == rank - 1 or static_shape(call.args[1]) == (1,)


class ChainRewriter(ContextRewriter):
    """A rewriter that asks for the chains of the graph as it came.

    Parameters
    ----------
    mod : IRModule
    ctx : PassContext
    """

    def __init__(self, mod: tvm.IRModule, ctx: PassContext):
        super().__init__(mod, ctx)
        self.chains = Chains(self.graph)
