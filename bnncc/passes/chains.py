"""Elementwise chains: which tensors are a function, element by element, of one other tensor, and what that function is.

Much of recognition asks one question: "as a function of that accumulator (or feature map), what values does this tensor take?" A chain answers it
by evaluation, not by patterns: constants are applied as the source would, in float32, to any points one likes.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import is_bnn, reference, static_shape
from bnncc.ops.interpreter import evaluate_elementwise
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import ContextRewriter, Graph, op_name

__all__ = ["ELEMENTWISE", "ChainRewriter", "Chains", "apply_call"]

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
        memo = dict(points)

        def value_of(arg):
            array = self.graph.constant(arg)
            if array is not None:
                return array
            if not isinstance(arg, relax.Var):  # the bounds of clip
                return arg.value
            if arg not in memo:
                call = self.graph.value(arg)
                memo[arg] = apply_call(call, [value_of(a) for a in call.args])
            return memo[arg]

        with np.errstate(all="ignore"):
            return value_of(var)

    def moves(self, arg: relax.Expr) -> bool:
        """Tell whether an operand is a tensor computed at run time, rather than a constant or a literal."""
        return isinstance(arg, relax.Var) and self.graph.constant(arg) is None

    def constant_shape(self, var: relax.Var, roots: relax.Var | tuple[relax.Var, ...]) -> tuple[int, ...]:
        """Return the shape, of the tensor's rank, that the constants on the way from `roots` to `var` broadcast to."""
        shapes = [(1,) * len(static_shape(var))]
        for each in self.between(var, roots):
            call = self.graph.value(each)
            for i, arg in enumerate(call.args):
                array = self.graph.constant(arg)
                if array is not None:
                    shapes.append(array.shape[1:] if op_name(call) == "relax.bnn.quantize" and i == 1 else array.shape)
        return np.broadcast_shapes(*shapes)

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


def apply_call(call: relax.Call, args: list[np.ndarray]) -> np.ndarray:
    """Evaluate one elementwise operator as the source does; operands have one leading axis of points more than the tensors, or are constants."""
    if op_name(call) == "relax.nn.prelu":
        return np.where(args[0] >= 0, args[0], args[0] * args[1])
    if op_name(call) == "relax.bnn.quantize":  # the axis of points goes between that of the thresholds and the rest
        rank = args[0].ndim
        args = [args[0], args[1].reshape(args[1].shape[0], *(1,) * (rank - args[1].ndim + 1), *args[1].shape[1:]), args[2]]
    if is_bnn(call):
        return reference(op_name(call))(call.attrs, *args)
    return evaluate_elementwise(op_name(call), call.attrs, *args)


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
