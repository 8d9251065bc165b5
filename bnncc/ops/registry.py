"""How an operator of the dialect is defined: attributes, type rule and NumPy meaning, all in one file an operator.

An operator `x` becomes ``relax.bnn.x``, prints as ``R.bnn.x`` and parses back. Its NumPy meaning is the oracle of every test of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import tvm
from tvm import relax
from tvm.relax import script as relax_script
from tvm.relax.script import parser as relax_parser

__all__ = ["bnn", "define_op", "dtype_of", "element_count", "is_bnn", "nbytes_of", "reference", "static_shape"]

_PREFIX = "relax.bnn."
_REFERENCES: dict[str, Callable] = {}

bnn = SimpleNamespace()
"""The dialect as TVMScript sees it: ``R.bnn`` (and ``bnncc.ops.bnn`` for Python code that builds calls)."""
relax_script.bnn = bnn
relax_parser.bnn = bnn


def define_op(name: str, build: Callable, infer: Callable[[relax.Call], relax.Type], reference: Callable) -> tvm.ir.Op:
    """Register ``relax.bnn.<name>``.

    Parameters
    ----------
    name : str
        Without the prefix.
    build : callable
        Given the operator, returns the function that makes a call of it; becomes ``R.bnn.<name>``.
    infer : callable
        Type of a call; raises TypeError or ValueError where arguments do not fit.
    reference : callable
        ``reference(attrs, *arrays) -> array``: the meaning, in NumPy.
    """
    full = _PREFIX + name
    tvm.ir.register_op_attr(full, "FInferType", lambda call, _builder: infer(call))
    tvm.ir.register_op_attr(full, "FPurity", True)
    op = tvm.ir.Op.get(full)
    setattr(bnn, name, build(op))
    _REFERENCES[full] = reference
    return op


def reference(op_name: str) -> Callable:
    """Return the NumPy meaning of the operator with this full name (``relax.bnn.conv2d``)."""
    return _REFERENCES[op_name]


def is_bnn(expr: relax.Expr, name: str | None = None) -> bool:
    """Tell whether `expr` is a call of the dialect (of ``relax.bnn.<name>`` where a name is given)."""
    if not isinstance(expr, relax.Call) or not isinstance(expr.op, tvm.ir.Op):
        return False
    return expr.op.name == _PREFIX + name if name else expr.op.name.startswith(_PREFIX)


def static_shape(expr: relax.Expr) -> tuple[int, ...]:
    """Return the shape of a tensor expression as integers."""
    return tuple(int(d) for d in expr.ty.shape.values)


def dtype_of(expr: relax.Expr) -> str:
    """Return the element type of a tensor expression."""
    return str(expr.ty.dtype)


def element_count(expr: relax.Expr) -> int:
    """Return how many elements a tensor expression has."""
    return math.prod(static_shape(expr))


def nbytes_of(expr: relax.Expr) -> int:
    """Return the size of a tensor expression in bytes."""
    return element_count(expr) * np.dtype(dtype_of(expr)).itemsize


def require(condition: bool, message: str) -> None:
    """Raise ValueError in a type rule."""
    if not condition:
        raise ValueError(message)


def popcount(words: np.ndarray) -> np.ndarray:
    """Count the one bits of each word, int32."""
    return np.bitwise_count(words).astype(np.int32)
