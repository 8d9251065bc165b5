"""Elementwise operators as vector expressions, one entry an operator.

LLVM may contract a multiplication and an addition into one fused operation, since TVM allows it. Integer thresholds are proven against
separate float32 roundings, so every product passes through ``llvm.arithmetic.fence``: no instruction, but nothing is contracted across it.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.statements import const, vector_type

__all__ = ["ELEMENTWISE", "apply"]


def _is_float(dtype: str) -> bool:
    return dtype.startswith("float")


def _llvm(name: str):
    """Return an operator that is an LLVM intrinsic of the same meaning (a call of libm where the target has no instruction)."""
    return lambda tensor, lanes, *args: tirx.call_llvm_pure_intrin(vector_type(tensor.dtype, lanes), f"llvm.{name}", *args)


def _product(a, b, dtype: str, lanes: int):
    """Return ``a * b``, rounded before anything is added to it."""
    return tirx.call_llvm_pure_intrin(vector_type(dtype, lanes), "llvm.arithmetic.fence", a * b) if _is_float(dtype) else a * b


def _multiply(tensor, lanes, a, b):
    return _product(a, b, tensor.dtype, lanes)


def _divide(tensor, lanes, a, b):
    return tirx.div(a, b) if _is_float(tensor.dtype) else tirx.truncdiv(a, b)


def _negative(tensor, lanes, x):
    # 0 - x would turn +0 into +0 instead of -0
    return x * const(-1.0, tensor.dtype, lanes) if _is_float(tensor.dtype) else const(0, tensor.dtype, lanes) - x


def _abs(tensor, lanes, x):
    return _llvm("fabs")(tensor, lanes, x) if _is_float(tensor.dtype) else tirx.Select(x < _zero(tensor, lanes), _zero(tensor, lanes) - x, x)


def _zero(tensor, lanes):
    return const(0, tensor.dtype, lanes)


def _one(tensor, lanes):
    return const(1, tensor.dtype, lanes)


def _relu(tensor, lanes, x):
    return tirx.max(x, _zero(tensor, lanes))


def _sign(tensor, lanes, x):
    zero = _zero(tensor, lanes)
    return tirx.Select(x > zero, _one(tensor, lanes), tirx.Select(x < zero, const(-1, tensor.dtype, lanes), zero))


def _leaky_relu(tensor, lanes, x):
    slope = const(float(tensor.attrs.alpha), tensor.dtype, lanes)
    return tirx.Select(x > _zero(tensor, lanes), x, _multiply(tensor, lanes, x, slope))


def _prelu(tensor, lanes, x, slope):
    return tirx.Select(x > _zero(tensor, lanes), x, _multiply(tensor, lanes, x, slope))


def _clip(tensor, lanes, x):
    low, high = (const(_number(bound), tensor.dtype, lanes) for bound in tensor.args[1:])
    return tirx.max(tirx.min(x, high), low)


def _number(bound) -> float | int:
    return getattr(bound, "value", bound)


def _sigmoid(tensor, lanes, x):
    one = _one(tensor, lanes)
    return tirx.div(one, one + _llvm("exp")(tensor, lanes, _negative(tensor, lanes, x)))


def _astype(tensor, lanes, x):
    source, dtype = tensor.args[0].dtype, tensor.dtype
    if source == dtype:
        return x
    if dtype == "bool":
        return tirx.NE(x, const(0, source, lanes))
    if source == "bool":
        return tirx.Select(x, const(1, dtype, lanes), const(0, dtype, lanes))
    return tirx.Cast(vector_type(dtype, lanes), x)


def _dequantize(tensor, lanes, x, scale, offset):
    return _product(tirx.Cast(vector_type("float32", lanes), x), scale, "float32", lanes) + offset


def _power(tensor, lanes, x, exponent):
    # small whole exponents as the reference multiplies them, each product rounded; pow rounds once
    whole = tensor.args[1].constant
    if whole not in (1, 2, 3):
        return _llvm("pow")(tensor, lanes, x, exponent)
    result = x
    for _ in range(int(whole) - 1):
        result = _multiply(tensor, lanes, result, x)
    return result


def _silu(tensor, lanes, x):
    return _multiply(tensor, lanes, x, _sigmoid(tensor, lanes, x))


ELEMENTWISE: dict[str, Callable] = {
    "relax.add": lambda t, n, a, b: a + b,
    "relax.subtract": lambda t, n, a, b: a - b,
    "relax.multiply": _multiply,
    "relax.divide": _divide,
    "relax.maximum": lambda t, n, a, b: tirx.max(a, b),
    "relax.minimum": lambda t, n, a, b: tirx.min(a, b),
    "relax.power": _power,
    "relax.clip": _clip,
    "relax.negative": _negative,
    "relax.abs": _abs,
    "relax.sign": _sign,
    "relax.floor": _llvm("floor"),
    "relax.ceil": _llvm("ceil"),
    "relax.round": _llvm("roundeven"),
    "relax.sqrt": _llvm("sqrt"),
    "relax.exp": _llvm("exp"),
    "relax.log": _llvm("log"),
    "relax.tanh": _llvm("tanh"),
    "relax.sigmoid": _sigmoid,
    "relax.square": lambda t, n, x: _multiply(t, n, x, x),
    "relax.rsqrt": lambda t, n, x: tirx.div(_one(t, n), _llvm("sqrt")(t, n, x)),
    "relax.nn.relu": _relu,
    "relax.nn.silu": _silu,
    "relax.nn.leakyrelu": _leaky_relu,
    "relax.nn.prelu": _prelu,
    "relax.greater": lambda t, n, a, b: tirx.GT(a, b),
    "relax.greater_equal": lambda t, n, a, b: tirx.GE(a, b),
    "relax.less": lambda t, n, a, b: tirx.LT(a, b),
    "relax.less_equal": lambda t, n, a, b: tirx.LE(a, b),
    "relax.equal": lambda t, n, a, b: tirx.EQ(a, b),
    "relax.not_equal": lambda t, n, a, b: tirx.NE(a, b),
    "relax.logical_and": lambda t, n, a, b: tirx.And(a, b),
    "relax.logical_or": lambda t, n, a, b: tirx.Or(a, b),
    "relax.logical_not": lambda t, n, a: tirx.Not(a),
    "relax.where": lambda t, n, c, a, b: tirx.Select(c, a, b),
    "relax.astype": _astype,
    "relax.bnn.dequantize": _dequantize,
}


def apply(tensor, lanes: int, args: list):
    """Return the vector expression of an elementwise operator.

    Parameters
    ----------
    tensor : Tensor
        The result; its operator and attributes say what to compute.
    lanes : int
    args : list
        Expressions of the tensor arguments, `lanes` wide.

    Raises
    ------
    InternalError
        The operator is not elementwise.
    """
    if tensor.op not in ELEMENTWISE:
        raise InternalError(f"{tensor.op} is not elementwise; it cannot stand in an epilogue")
    return ELEMENTWISE[tensor.op](tensor, lanes, *args)
