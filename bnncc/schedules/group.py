"""What a kernel is built from: a Relax function of one dataflow block, read into plain lists."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import relax, tirx
from tvm.ir import GenericConst, Tuple

from bnncc.errors import InternalError, UnsupportedOperator
from bnncc.ops import dtype_of, static_shape

__all__ = ["Group", "Tensor", "read_group", "linear_index", "declare"]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value of a group: a parameter, a scalar constant or the result of an operator.

    Parameters
    ----------
    name : str
    shape : tuple of int
    dtype : str
    op : str
        Full operator name; empty for parameters and constants.
    args : tuple
        Tensors, and TVM expressions where an operator takes those (the bounds of clip).
    call : relax.Call, optional
        The call itself, for its attributes.
    constant : scalar, optional
        The value of a constant of one element.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    op: str = ""
    args: tuple = ()
    call: relax.Call | None = None
    constant: np.generic | None = None

    @property
    def attrs(self):
        """Attributes of the operator."""
        return self.call.attrs

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Group:
    """A group to be compiled into one kernel.

    Parameters
    ----------
    params : tuple of Tensor
    constant_params : frozenset of Tensor
        Those of `params` that are bound to constants of the model.
    nodes : tuple of Tensor
        Results of operators, in order.
    outputs : tuple of Tensor
    uses : dict
        How often each tensor is read or returned.
    """

    params: tuple[Tensor, ...]
    constant_params: frozenset[Tensor]
    nodes: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    uses: dict[Tensor, int]

    def is_constant(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is known at compile time: a parameter bound to a constant of the model, or inline."""
        return tensor in self.constant_params or tensor.constant is not None


def linear_index(shape: tuple[int, ...], index) -> object:
    """Return the row-major offset of `index` in `shape`."""
    offset = 0
    for size, i in zip(shape, index, strict=True):
        offset = offset * size + i
    return offset


def read_group(function: relax.Function) -> Group:
    """Read a group.

    Raises
    ------
    InternalError
        The function is no single dataflow block of calls, has a constant of more than one element inside, or a shape that is not static.
    UnsupportedOperator
        An operator gives several tensors at once.
    """
    blocks = function.body.blocks if isinstance(function.body, relax.SeqExpr) else []
    if len(blocks) != 1:
        raise InternalError(f"a group is one dataflow block of calls; found {len(blocks)} blocks")
    known: dict = {}
    uses: dict[Tensor, int] = {}

    def tensor(expr) -> object:
        if isinstance(expr, GenericConst):
            array = expr.value.numpy()
            if array.size != 1:
                raise InternalError(f"a constant of shape {array.shape} inside a group: only scalars are inline, others are parameters")
            return Tensor("constant", array.shape, str(array.dtype), constant=array.reshape(-1)[0])
        if isinstance(expr, relax.Var):
            found = known[expr]
            uses[found] = uses.get(found, 0) + 1
            return found
        if isinstance(expr, Tuple):
            return tuple(tensor(field) for field in expr.fields)
        return expr

    for var in function.params:
        known[var] = Tensor(var.name, static_shape(var), dtype_of(var))
    nodes = []
    for binding in blocks[0].bindings:
        value = binding.value
        if isinstance(value, relax.Call):
            if isinstance(binding.var.ty, relax.TupleType):
                raise UnsupportedOperator(
                    f"{binding.var.name}: {value.op.name.removeprefix('relax.')} gives several tensors at once, for which there are no kernels. Export the "
                    "network without it, and compute it from the network's output."
                )
            args = tuple(tensor(arg) for arg in value.args)
            node = Tensor(binding.var.name, static_shape(binding.var), dtype_of(binding.var), value.op.name, args, value)
            known[binding.var] = node
            nodes.append(node)
        elif isinstance(value, (relax.Var, Tuple)):
            known[binding.var] = tensor(value)
        else:
            raise InternalError(f"a group holds calls only; {binding.var.name} is {type(value).__name__}")
    result = tensor(function.body.body)
    outputs = result if isinstance(result, tuple) else (result,)
    params = tuple(known[var] for var in function.params)
    attrs = function.attrs or {}
    indices = [int(i) for i in attrs["bnncc.const_params"]] if "bnncc.const_params" in attrs else []
    return Group(params, frozenset(params[i] for i in indices), tuple(nodes), outputs, uses)


def declare(tensor: Tensor, size: int | None = None, dtype: str | None = None):
    """Return a one-dimensional buffer for a parameter or an output."""
    return tirx.decl_buffer((tensor.size if size is None else size,), dtype or tensor.dtype, tensor.name)
