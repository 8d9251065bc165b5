"""Evaluate Relax modules with NumPy: the oracle of passes and of `verify`.

Each operator is computed in its own element type and rounded once to it, so that a chain of elementwise operators gives what a float runtime gives. Every
result is checked against the type that Relax inferred for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst, GlobalVar, Tuple, TupleGetItem

from bnncc.errors import InternalError
from bnncc.ops.numpy_elementwise import ELEMENTWISE
from bnncc.ops.numpy_tensor import TENSOR
from bnncc.ops.numpy_windows import WINDOWED
from bnncc.ops.registry import is_bnn, reference

__all__ = ["run_module", "evaluate_call", "evaluate_elementwise", "is_elementwise"]

_SEMANTICS: dict[str, Callable] = {**ELEMENTWISE, **TENSOR, **WINDOWED}


def is_elementwise(op_name: str) -> bool:
    """Tell whether an element of the result depends on one element (after broadcasting) of each operand only."""
    return op_name in ELEMENTWISE


def evaluate_elementwise(op_name: str, attrs, *arrays) -> np.ndarray:
    """Evaluate one elementwise operator, vectorised and in its operands' type.

    Parameters
    ----------
    op_name : str
        Full name, ``relax.add``.
    attrs : Attrs or None
        The call's attributes.
    *arrays : ndarray
        Operands, which broadcast; Relax passes the bounds of ``relax.clip`` as operands, too.

    Returns
    -------
    ndarray
        bool for comparisons and logic, else the operands' dtype.

    Raises
    ------
    InternalError
        The operator is not elementwise.
    """
    if op_name not in ELEMENTWISE:
        raise InternalError(f"{op_name} is not an elementwise operator that the compiler can evaluate.")
    with np.errstate(all="ignore"):
        return ELEMENTWISE[op_name](attrs, *arrays)


def evaluate_call(call: relax.Call, arguments: list) -> np.ndarray | tuple:
    """Evaluate one call of an operator on the values of its arguments.

    Raises
    ------
    InternalError
        The operator has no NumPy meaning, or its result does not have the type that Relax inferred.
    """
    name = call.op.name
    evaluate = reference(name) if is_bnn(call) else _SEMANTICS.get(name)
    if evaluate is None:
        raise InternalError(f"The operator {name} has no NumPy meaning; the interpreter knows {len(_SEMANTICS)} Relax operators and relax.bnn.*.")
    with np.errstate(all="ignore"):
        result = evaluate(call.attrs, *arguments)
    return _conform(result, call.ty, name)


def run_module(mod: tvm.IRModule, *arrays, entry: str = "main", observe: Callable[[str, np.ndarray], None] | None = None):
    """Run a function of a module.

    Parameters
    ----------
    mod : IRModule
        Relax functions of straight-line bindings, which may call one another.
    *arrays : ndarray
        One a parameter, with its shape and dtype.
    entry : str
    observe : callable, optional
        Called with the name and the value of every variable as it is bound, in every function that runs.

    Returns
    -------
    ndarray or tuple of ndarray

    Raises
    ------
    InternalError
        Arguments that do not fit, something that is not straight-line code, or an operator without NumPy meaning.
    """
    functions = {g.name_hint: f for g, f in mod.functions_items()}
    if entry not in functions:
        raise InternalError(f"The module has no function {entry!r}; it has {', '.join(functions) or 'none'}.")
    return _Run(functions, observe).function(functions[entry], arrays, entry)


class _Run:
    def __init__(self, functions, observe):
        self.functions = functions
        self.observe = observe

    def function(self, function, arguments, name):
        if len(arguments) != len(function.params):
            raise InternalError(f"{name} takes {len(function.params)} arrays and got {len(arguments)}.")
        env = {}
        for param, value in zip(function.params, arguments):
            if not isinstance(value, tuple):
                value = _argument(np.asarray(value), param)
            env[param] = value
        body = function.body
        if not isinstance(body, relax.SeqExpr):
            return self.value(body, env)
        left = _last_reads(body)
        for i, binding in enumerate(b for block in body.blocks for b in block.bindings):
            if not isinstance(binding, relax.VarBinding):
                raise InternalError(f"{name} is not straight-line code: {binding.var.name} is bound by a {type(binding).__name__}.")
            env[binding.var] = self.value(binding.value, env)
            if self.observe is not None:
                self.observe(binding.var.name, env[binding.var])
            for var in left.get(i, ()):  # 16 copies of an image network do not fit in memory
                env.pop(var, None)
        return self.value(body.body, env)

    def value(self, expr, env):
        if isinstance(expr, relax.Var):
            return env[expr]
        if isinstance(expr, GenericConst):
            return expr.value.numpy()
        if isinstance(expr, relax.ShapeExpr):
            return tuple(int(v) for v in expr.values)
        if isinstance(expr, Tuple):
            return tuple(self.value(f, env) for f in expr.fields)
        if isinstance(expr, TupleGetItem):
            return self.value(expr.tuple_value, env)[expr.index]
        if isinstance(expr, tvm.tirx.IntImm | tvm.tirx.FloatImm):
            return expr.value
        if isinstance(expr, relax.Call):
            arguments = [self.value(a, env) for a in expr.args]
            if isinstance(expr.op, tvm.ir.Op):
                return evaluate_call(expr, arguments)
            if isinstance(expr.op, GlobalVar):
                return self.function(self.functions[expr.op.name_hint], arguments, expr.op.name_hint)
        raise InternalError(f"The interpreter takes calls of operators and functions, constants and tuples, not {type(expr).__name__}: {expr}")


def _used(expr):
    if isinstance(expr, relax.Var):
        return {expr}
    if isinstance(expr, relax.Call):
        return set().union(*(_used(a) for a in expr.args))
    if isinstance(expr, Tuple):
        return set().union(*(_used(f) for f in expr.fields))
    return _used(expr.tuple_value) if isinstance(expr, TupleGetItem) else set()


def _last_reads(body):
    """Map the index of a binding to the variables that nothing reads after it."""
    last = {}
    for i, b in enumerate(b for block in body.blocks for b in block.bindings):
        last.update(dict.fromkeys(_used(b.value), i))
    for var in _used(body.body):
        last.pop(var, None)
    dead = {}
    for var, i in last.items():
        dead.setdefault(i, []).append(var)
    return dead


def _argument(array, param):
    shape, dtype = _shape_dtype(param.ty)
    if array.shape != shape or array.dtype != dtype:
        raise InternalError(f"{param.name} is {dtype}{list(shape)}, the array is {array.dtype}{list(array.shape)}.")
    return array


def _shape_dtype(ty):
    return tuple(int(d) for d in ty.shape.values), np.dtype(str(ty.dtype))


def _conform(result, ty, name):
    """Round the result to the inferred type and check its shape."""
    if isinstance(ty, tvm.ir.TupleType):
        return tuple(_conform(r, t, name) for r, t in zip(result, ty.fields, strict=True))
    shape, dtype = _shape_dtype(ty)
    result = np.asarray(result)
    if result.shape != shape:
        raise InternalError(f"{name} gives {list(result.shape)} in NumPy, but its inferred type is {ty}.")
    return result if result.dtype == dtype else result.astype(dtype)
