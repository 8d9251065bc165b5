"""Base of the passes on ``main``: one dataflow block of straight-line bindings in A-normal form, read as a graph, rewritten in one walk.

Names carry provenance (`PassContext.tensors` is keyed by them), so a binding that is rewritten keeps its name and everything new gets a fresh one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst, Tuple, TupleGetItem

from bnncc.errors import InternalError
from bnncc.passes.context import PassContext

__all__ = ["REAL_LAYERS", "Graph", "Builder", "ContextRewriter", "Rewriter", "replace_function", "constant", "const", "op_name", "used_vars", "substitute"]

REAL_LAYERS = ("relax.nn.conv2d", "relax.matmul")
"""Layers with weights, as they are imported."""


def op_name(expr: relax.Expr) -> str | None:
    """Return the full name of the operator that `expr` calls (``relax.nn.conv2d``), None for anything else."""
    if isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op):
        return expr.op.name
    return None


def constant(expr: relax.Expr) -> np.ndarray | None:
    """Return the array of a literal constant, None for anything else. Do not write to it."""
    return expr.value.numpy() if isinstance(expr, GenericConst) else None


def const(array, dtype: str | None = None) -> GenericConst:
    """Make a constant; the dtype is the array's own unless given."""
    array = np.asarray(array, dtype)
    return relax.const(np.ascontiguousarray(array).reshape(array.shape), str(array.dtype))


def used_vars(expr: relax.Expr) -> Iterator[relax.Var]:
    """Yield every variable that a bound expression reads, in order, with repetitions."""
    if isinstance(expr, relax.Var):
        yield expr
    elif isinstance(expr, relax.Call):
        for arg in expr.args:
            yield from used_vars(arg)
    elif isinstance(expr, Tuple):
        for field in expr.fields:
            yield from used_vars(field)
    elif isinstance(expr, TupleGetItem):
        yield from used_vars(expr.tuple_value)


def substitute(expr: relax.Expr, mapping: dict[relax.Var, relax.Expr]) -> relax.Expr:
    """Replace variables; an expression in which nothing changes is returned as it is, else without a type."""
    if isinstance(expr, relax.Var):
        return mapping.get(expr, expr)
    if not mapping or not any(v in mapping for v in used_vars(expr)):
        return expr
    if isinstance(expr, relax.Call):
        return relax.Call(expr.op, [substitute(a, mapping) for a in expr.args], expr.attrs, expr.ty_args)
    if isinstance(expr, Tuple):
        return Tuple([substitute(f, mapping) for f in expr.fields])
    return TupleGetItem(substitute(expr.tuple_value, mapping), expr.index)


class Graph:
    """Read view of a function of straight-line bindings.

    Parameters
    ----------
    mod : IRModule
    function : str

    Attributes
    ----------
    params, outputs : list of Var
        `outputs` are expressions where the function returns a parameter or a constant as it is.
    bindings : list of VarBinding
        In order of evaluation.
    is_tuple : bool
        Whether the function returns a tuple.

    Raises
    ------
    InternalError
        The function is missing or is not straight-line.
    """

    def __init__(self, mod: tvm.IRModule, function: str = "main"):
        names = [g.name_hint for g in mod.get_global_vars()]
        if function not in names:
            raise InternalError(f"The module has no function {function!r}; it has {', '.join(names) or 'none'}.")
        self.function: relax.Function = mod[function]
        body = self.function.body
        self.bindings: list[relax.VarBinding] = []
        if isinstance(body, relax.SeqExpr):
            self.bindings = [b for block in body.blocks for b in block.bindings]
            body = body.body
        for b in self.bindings:
            if not isinstance(b, relax.VarBinding) or isinstance(b.value, relax.If | relax.Function | relax.SeqExpr):
                raise InternalError(f"{function!r} is not straight-line code: {b.var.name} is bound to {type(b).__name__} {b}.")
        self.params: list[relax.Var] = list(self.function.params)
        self.is_tuple = isinstance(body, Tuple)
        self.outputs: list[relax.Expr] = list(body.fields) if self.is_tuple else [body]
        self._values = {b.var: b.value for b in self.bindings}
        self._constants: dict[relax.Expr, np.ndarray | None] = {}  # copied out of TVM once each: chains are evaluated often
        self._users: dict[relax.Var, list[relax.Var]] = {}
        for b in self.bindings:
            for v in dict.fromkeys(used_vars(b.value)):
                self._users.setdefault(v, []).append(b.var)

    def value(self, expr: relax.Expr) -> relax.Expr | None:
        """Return what a variable is bound to; None for a parameter and for what is no variable."""
        return self._values.get(expr) if isinstance(expr, relax.Var) else None

    def users(self, var: relax.Var) -> list[relax.Var]:
        """Return the variables whose expressions read `var`, in order, each once; being an output is no use."""
        return self._users.get(var, [])

    def is_output(self, var: relax.Var) -> bool:
        """Tell whether the function returns `var`."""
        return any(isinstance(o, relax.Var) and o.same_as(var) for o in self.outputs)

    def constant(self, expr: relax.Expr) -> np.ndarray | None:
        """Return the array of a constant, or of a variable bound to one; None for anything else."""
        if expr not in self._constants:
            bound = expr
            while isinstance(bound, relax.Var):
                bound = self._values.get(bound)
            self._constants[expr] = constant(bound)
        return self._constants[expr]

    def op(self, expr: relax.Expr) -> str | None:
        """Return the operator's full name of a call, or of the call a variable is bound to."""
        return op_name(self.value(expr) if isinstance(expr, relax.Var) else expr)


class Builder:
    """Bindings in the making; every expression gets its type as it is bound."""

    def __init__(self, taken: set[str]):
        self.bindings: list[relax.VarBinding] = []
        self.values: dict[relax.Var, relax.Expr] = {}
        """What each variable bound so far is bound to."""
        self._taken = taken
        self._counts: dict[str, int] = {}
        self._normalizer = relax.BlockBuilder()

    def fresh(self, hint: str) -> str:
        """Return a name not in use that begins with `hint`."""
        name = hint
        while name in self._taken:
            self._counts[hint] = self._counts.get(hint, 0) + 1
            name = f"{hint}_{self._counts[hint]}"
        self._taken.add(name)
        return name

    def typed(self, expr: relax.Expr) -> relax.Expr:
        """Return the expression with its type inferred.

        Raises
        ------
        InternalError
            The arguments do not fit the operator.
        """
        if isinstance(expr, relax.Var | GenericConst):
            return expr
        try:
            return self._normalizer.normalize(expr)
        except (ValueError, TypeError, tvm.error.InternalError) as error:
            raise InternalError(f"A pass built a call of {op_name(expr)} that does not type-check: {str(error)[-800:]}") from error

    def emit(self, expr: relax.Expr, hint: str = "v") -> relax.Var:
        """Bind an expression to a fresh variable; a variable is returned as it is."""
        if isinstance(expr, relax.Var):
            return expr
        return self.bind(expr, self.fresh(hint))

    def bind(self, expr: relax.Expr, name: str) -> relax.Var:
        """Bind an expression under exactly this name, which the caller knows to be free."""
        expr = self.typed(expr)
        var = relax.DataflowVar(name, expr.ty)
        self._taken.add(name)
        self.bindings.append(relax.VarBinding(var, expr))
        self.values[var] = expr
        return var

    def keep(self, binding: relax.VarBinding) -> relax.Var:
        """Take over a binding whose variable and operands stand for themselves: it has its type already."""
        self.bindings.append(binding)
        self.values[binding.var] = binding.value
        return binding.var


class Rewriter:
    """Walk the bindings of one function in order and rebuild it.

    Subclasses override `rewrite`. What nothing reads any more is dropped at the end; parameters and the number and order of the outputs stay.

    Parameters
    ----------
    mod : IRModule
    function : str
    """

    def __init__(self, mod: tvm.IRModule, function: str = "main"):
        self.mod = mod
        self.function = function
        self.graph = Graph(mod, function)
        self.mapping: dict[relax.Var, relax.Expr] = {}
        """Old variable to the expression (variable or constant) that stands for it now; itself, where nothing changed."""

    def rewrite(self, var: relax.Var, value: relax.Expr, builder: Builder) -> relax.Expr | None:
        """Return what to bind `var` to instead, None to leave it.

        Parameters
        ----------
        var : Var
            As in `self.graph`, for questions to it.
        value : Expr
            With variables already replaced by what stands for them now, so without a type where something changed.
        builder : Builder
            For further bindings that the new expression needs.

        Returns
        -------
        Expr or None
            A call, bound under the name of `var`; a variable or a constant, which takes the place of `var` everywhere; None: keep `value`.
        """
        raise NotImplementedError

    def run(self) -> tvm.IRModule:
        """Return the module with the function rebuilt; every other function is kept."""
        graph = self.graph
        builder = Builder({v.name for v in graph.params} | {b.var.name for b in graph.bindings})
        moved: dict[relax.Var, relax.Expr] = {}  # the part of the mapping that changes something
        for b in graph.bindings:
            value = substitute(b.value, moved)
            new = self.rewrite(b.var, value, builder)
            new = value if new is None else new
            if isinstance(new, relax.Var | GenericConst):
                self.mapping[b.var] = moved[b.var] = new
            elif new.same_as(b.value) and isinstance(b.var, relax.DataflowVar):
                self.mapping[b.var] = builder.keep(b)
            else:
                self.mapping[b.var] = moved[b.var] = builder.bind(new, b.var.name)
        outputs = [self.mapping.get(o, o) if isinstance(o, relax.Var) else o for o in graph.outputs]
        return replace_function(self.mod, self.function, graph, builder.bindings, outputs)


class ContextRewriter(Rewriter):
    """A rewriter of ``main`` that knows the context: it asks for options there, and notes what it decides.

    Parameters
    ----------
    mod : IRModule
    ctx : PassContext
    """

    def __init__(self, mod: tvm.IRModule, ctx: PassContext):
        super().__init__(mod)
        self.ctx = ctx


def replace_function(mod: tvm.IRModule, name: str, graph: Graph, bindings: list[relax.VarBinding], outputs: list[relax.Expr]) -> tvm.IRModule:
    """Put a function together again from live bindings and outputs; its parameters and attributes stay."""
    live = {o for o in outputs if isinstance(o, relax.Var)}
    kept = []
    for b in reversed(bindings):
        if b.var in live:
            kept.append(b)
            live.update(used_vars(b.value))
    kept.reverse()
    # what leaves a dataflow block must be a Var, not a DataflowVar
    leaving = {o: relax.Var(o.name, o.ty) for o in outputs if isinstance(o, relax.DataflowVar)}
    final = []
    for b in kept:
        value = substitute(b.value, leaving)
        if not value.same_as(b.value):
            value = relax.BlockBuilder().normalize(value)
        final.append(relax.VarBinding(leaving.get(b.var, b.var), value))
    returned = [leaving.get(o, o) if isinstance(o, relax.Var) else o for o in outputs]
    body = Tuple(returned) if graph.is_tuple else returned[0]
    seq = relax.BlockBuilder().normalize(relax.SeqExpr([relax.DataflowBlock(final)] if final else [], body))
    function = relax.Function(graph.params, seq, body.ty if not graph.is_tuple else relax.TupleType([r.ty for r in returned]), is_pure=True)
    if graph.function.attrs:
        function = function.with_attrs(dict(graph.function.attrs))
    out = tvm.IRModule({g: f for g, f in mod.functions_items()}, attrs=mod.attrs)
    out.update_func(out.get_global_var(name), function)
    return out
