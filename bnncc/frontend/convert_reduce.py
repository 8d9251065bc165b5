"""Reductions and softmax."""

from __future__ import annotations

import functools
import math

from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import CONVERTERS, Conversion, converts


def _reduce(operator: object, c: Conversion) -> relax.Expr:
    x = c[0]
    axes = c.ints(1, "axes", "list of axes")
    if not axes and c.attributes.get("noop_with_empty_axes", 0):
        return x
    if c.node.op_type == "ReduceL1":
        x = c.emit(R.abs(x))
    elif c.node.op_type in ("ReduceL2", "ReduceSumSquare"):
        x = c.emit(R.multiply(x, x))
    result = operator(x, axes or None, bool(c.attributes.get("keepdims", 1)))
    return R.sqrt(c.emit(result)) if c.node.op_type == "ReduceL2" else result


_REDUCTIONS = {"ReduceMean": R.mean, "ReduceSum": R.sum, "ReduceMax": R.max, "ReduceMin": R.min, "ReduceProd": R.prod, "ReduceL1": R.sum,
               "ReduceL2": R.sum, "ReduceSumSquare": R.sum}  # fmt: skip
CONVERTERS.update((name, functools.partial(_reduce, operator)) for name, operator in _REDUCTIONS.items())


@converts("GlobalAveragePool", "GlobalMaxPool")
def convert_global_pool(c: Conversion) -> relax.Expr:
    """Mean or maximum over all spatial axes, which stay with size 1."""
    axes = list(range(2, len(c.shape(c[0]))))
    return (R.mean if c.node.op_type == "GlobalAveragePool" else R.max)(c[0], axes, True)


@converts("ArgMax", "ArgMin")
def convert_arg(c: Conversion) -> relax.Expr:
    """Index of the first extreme element."""
    if c.attributes.get("select_last_index", 0):
        raise c.unsupported("select_last_index=1 is not supported, only the first index. Export the model with select_last_index=0.")
    operator = R.argmax if c.node.op_type == "ArgMax" else R.argmin
    return operator(c[0], c.attributes.get("axis", 0), bool(c.attributes.get("keepdims", 1)))


@converts("Softmax")
def convert_softmax(c: Conversion) -> relax.Expr:
    """Softmax along an axis; before opset 13, along everything from the axis on."""
    x, shape = c[0], c.shape(c[0])
    axis = c.attributes.get("axis", -1 if c.opset >= 13 else 1) % max(len(shape), 1)
    if c.opset >= 13 or math.prod(shape[axis:]) == shape[axis]:
        return R.nn.softmax(x, axis)
    flat = c.emit(R.reshape(x, [math.prod(shape[:axis]), math.prod(shape[axis:])]))
    return R.reshape(c.emit(R.nn.softmax(flat, 1)), shape)
