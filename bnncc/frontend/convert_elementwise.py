"""Elementwise operators."""

from __future__ import annotations

import functools

import numpy as np
import onnx
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import CONVERTERS, Conversion, constant_of, converts

_UNARY = {
    "Neg": R.negative, "Abs": R.abs, "Sign": R.sign, "Floor": R.floor, "Ceil": R.ceil, "Round": R.round, "Sqrt": R.sqrt,
    "Exp": R.exp, "Log": R.log, "Tanh": R.tanh, "Sigmoid": R.sigmoid, "Not": R.logical_not, "Relu": R.nn.relu,
}  # fmt: skip
_BINARY = {
    "Add": R.add, "Sub": R.subtract, "Mul": R.multiply, "Pow": R.power, "Greater": R.greater, "GreaterOrEqual": R.greater_equal,
    "Less": R.less, "LessOrEqual": R.less_equal, "And": R.logical_and, "Or": R.logical_or, "Xor": R.logical_xor,
}  # fmt: skip
_CHAINED = {"Max": R.maximum, "Min": R.minimum, "Sum": R.add}


def _unary(operator: object, c: Conversion) -> relax.Expr:
    return operator(c[0])


def _binary(operator: object, c: Conversion) -> relax.Expr:
    a, b = c[0], c[1]
    if c.dtype(a) != c.dtype(b):  # only Pow may mix them
        b = c.emit(R.astype(b, c.dtype(a)))
    return operator(a, b)


def _chained(operator: object, c: Conversion) -> relax.Expr:
    total = c[0]
    for i in range(1, len(c)):
        total = operator(c.emit(total), c[i])
    return total


for _table, _rule in ((_UNARY, _unary), (_BINARY, _binary), (_CHAINED, _chained)):
    CONVERTERS.update((name, functools.partial(_rule, operator)) for name, operator in _table.items())


@converts("Equal")
def convert_equal(c: Conversion) -> relax.Expr:
    """Equality; that of bools is spelled ``not xor``, since TVM generates faulty code for R.equal on them."""
    if c.dtype(c[0]) == "bool":
        return R.logical_not(c.emit(R.logical_xor(c[0], c[1])))
    return R.equal(c[0], c[1])


@converts("Div")
def convert_div(c: Conversion) -> relax.Expr:
    """Quotient; that of integers is cut towards zero, which Relax has no operator for."""
    if not c.dtype(c[0]).startswith("float"):
        raise c.unsupported(
            f"division of {c.dtype(c[0])} at run time is not supported, only that of floats. Cast the operands to float32 and floor."
        )
    return R.divide(c[0], c[1])


@converts("Reciprocal")
def convert_reciprocal(c: Conversion) -> relax.Expr:
    """``1 / x``."""
    return R.divide(c.like(1, c[0]), c[0])


@converts("Mean")
def convert_mean(c: Conversion) -> relax.Expr:
    """Mean of several tensors."""
    total = c.emit(_chained(R.add, c))
    return R.divide(total, c.like(len(c), total))


@converts("Clip")
def convert_clip(c: Conversion) -> relax.Expr:
    """``min(max(x, low), high)``; either bound may be left out or infinite."""
    x = c[0]
    if c.opset < 11:
        low, high = c.attributes.get("min", -np.inf), c.attributes.get("max", np.inf)
    else:
        for i, operator in ((1, R.maximum), (2, R.minimum)):
            if c.get(i) is not None and c.array(i) is None:
                x = operator(c.emit(x), c.get(i))
        low = -np.inf if c.array(1) is None else c.array(1).item()
        high = np.inf if c.array(2) is None else c.array(2).item()
    if np.isfinite(low) and np.isfinite(high) and low <= high:
        return R.clip(c.emit(x), low, high)
    if low != -np.inf:
        x = R.maximum(c.emit(x), c.like(low, c[0]))
    return x if high == np.inf else R.minimum(c.emit(x), c.like(high, c[0]))


@converts("LeakyRelu")
def convert_leaky_relu(c: Conversion) -> relax.Expr:
    """``x`` where positive, else ``alpha * x``."""
    return R.nn.leakyrelu(c[0], c.attributes.get("alpha", 0.01))


@converts("PRelu")
def convert_prelu(c: Conversion) -> relax.Expr:
    """``x`` where positive, else ``slope * x``; one slope for all or a channel, otherwise by comparison."""
    x, slope = c[0], c[1]
    rank, size = len(c.shape(x)), c.shape(slope)
    channels = c.shape(x)[1] if rank > 1 else 1
    by_channel = (1,) * (rank - len(size)) + size
    values = c.array(1)
    if values is not None and rank > 1 and all(d == 1 or (i == 1 and d == channels) for i, d in enumerate(by_channel)):
        return R.nn.prelu(x, constant_of(np.ascontiguousarray(np.broadcast_to(values.reshape(-1), [channels]))), axis=1)
    scaled = c.emit(R.multiply(x, slope))
    return R.where(c.emit(R.less(x, c.like(0, x))), scaled, x)


@converts("HardSigmoid")
def convert_hard_sigmoid(c: Conversion) -> relax.Expr:
    """``clip(alpha * x + beta, 0, 1)``."""
    x = c.emit(R.multiply(c[0], c.like(c.attributes.get("alpha", 0.2), c[0])))
    x = c.emit(R.add(x, c.like(c.attributes.get("beta", 0.5), c[0])))
    return R.clip(x, 0, 1)


@converts("HardSwish")
def convert_hard_swish(c: Conversion) -> relax.Expr:
    """``x * clip(x / 6 + 0.5, 0, 1)``."""
    gate = c.emit(R.multiply(c[0], c.like(1 / 6, c[0])))
    gate = c.emit(R.add(gate, c.like(0.5, c[0])))
    return R.multiply(c[0], c.emit(R.clip(gate, 0, 1)))


@converts("Celu")
def convert_celu(c: Conversion) -> relax.Expr:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    alpha = c.like(c.attributes.get("alpha", 1.0), c[0])
    power = c.emit(R.exp(c.emit(R.divide(c[0], alpha))))
    below = c.emit(R.multiply(c.emit(R.subtract(power, c.like(1.0, c[0]))), alpha))
    return R.add(c.emit(R.maximum(c[0], c.like(0.0, c[0]))), c.emit(R.minimum(below, c.like(0.0, c[0]))))


@converts("Where")
def convert_where(c: Conversion) -> relax.Expr:
    """Choose by condition."""
    return R.where(c[0], c[1], c[2])


@converts("Cast", "CastLike")
def convert_cast(c: Conversion) -> relax.Expr:
    """Change the element type; to bool means "is not 0"."""
    if c.node.op_type == "Cast":
        dtype = onnx.helper.tensor_dtype_to_np_dtype(c.attributes["to"]).name
    else:
        dtype = c.dtype(c[1])
    if dtype == c.dtype(c[0]):
        return c[0]
    if dtype == "bool":
        return R.not_equal(c[0], c.like(0, c[0]))
    return R.astype(c[0], dtype)
