"""NumPy meaning of Relax's elementwise operators, in the element type that the operator computes in.

A float32 operator is evaluated in float32 and rounded once, as a float runtime does it, because thresholds are folded by evaluating chains of
these on every reachable accumulator value: there, one rounding more or less moves a threshold. Operators of IEEE 754 (add, subtract, multiply,
divide, square root, rounding, comparison) agree with any runtime bit for bit; exp, log, tanh, sigmoid, erf and general powers agree to the last
place or two, because runtimes approximate them differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["ELEMENTWISE"]


def _like(x: np.ndarray, scalar):
    return np.asarray(scalar).astype(x.dtype)


def _divide(_, a, b):
    if np.issubdtype(np.result_type(a, b), np.integer):  # ONNX divides integers toward zero
        quotient = np.abs(a) // np.abs(b)
        return np.where((a < 0) != (b < 0), -quotient, quotient)
    return np.divide(a, b)


def _power(_, x, exponent):
    # float runtimes multiply for the small whole exponents that models use (variance, normalisation)
    if np.ndim(exponent) == 0 or np.size(exponent) == 1:
        e = np.asarray(exponent).reshape(-1)[0]
        if e == 1:
            return x * np.ones_like(exponent, x.dtype)
        if e == 2:
            return x * x * np.ones_like(exponent, x.dtype)
        if e == 3:
            return x * x * x * np.ones_like(exponent, x.dtype)
    return np.power(x, np.asarray(exponent).astype(x.dtype))


def _sigmoid(_, x):
    # exp of minus the magnitude never overflows
    e = np.exp(-np.abs(x))
    one = _like(x, 1)
    return np.where(x >= 0, one / (one + e), e / (one + e))


def _erf(_, x):
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


def _leakyrelu(attrs, x):
    return np.where(x >= 0, x, x * _like(x, attrs.alpha))


def _prelu(attrs, x, slope):
    if np.ndim(slope) == 1 and np.size(slope) > 1:
        shape = [1] * x.ndim
        shape[attrs.axis] = -1
        slope = slope.reshape(shape)
    return np.where(x >= 0, x, x * slope)


def _astype(attrs, x):
    return x != 0 if str(attrs.dtype) == "bool" else x.astype(str(attrs.dtype))


def _softplus(attrs, x):
    scaled = x * _like(x, attrs.beta)
    return np.where(scaled > _like(x, attrs.threshold), x, np.logaddexp(scaled, _like(x, 0)) / _like(x, attrs.beta))


def _gelu(_, x):
    half, one, root = _like(x, 0.5), _like(x, 1), _like(x, math.sqrt(0.5))
    return half * x * (one + _erf(None, x * root))


def _unary(f: Callable) -> Callable:
    return lambda _, x: f(x)


def _binary(f: Callable) -> Callable:
    return lambda _, a, b: f(a, b)


_UNARY = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "bitwise_not": np.bitwise_not,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "floor": np.floor,
    "isfinite": np.isfinite,
    "isinf": np.isinf,
    "isnan": np.isnan,
    "log": np.log,
    "logical_not": np.logical_not,
    "negative": np.negative,
    "nn.relu": lambda x: np.maximum(x, _like(x, 0)),
    "nn.relu6": lambda x: np.clip(x, _like(x, 0), _like(x, 6)),
    "round": np.rint,  # half to even, as ONNX
    "rsqrt": lambda x: _like(x, 1) / np.sqrt(x),
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": lambda x: x * x,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
}
_BINARY = {
    "add": np.add,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "equal": np.equal,
    "floor_divide": np.floor_divide,
    "floor_mod": np.mod,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "left_shift": np.left_shift,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.fmod,
    "multiply": np.multiply,
    "not_equal": np.not_equal,
    "right_shift": np.right_shift,
    "subtract": np.subtract,
}
_OTHER = {
    "astype": _astype,
    "clip": lambda _, x, lo, hi: np.minimum(np.maximum(x, _like(x, lo)), _like(x, hi)),
    "divide": _divide,
    "erf": _erf,
    "ewise_fma": lambda _, a, b, c: a * b + c,
    "nn.gelu": _gelu,
    "nn.leakyrelu": _leakyrelu,
    "nn.prelu": _prelu,
    "nn.silu": lambda _, x: x * _sigmoid(None, x),
    "nn.softplus": _softplus,
    "power": _power,
    "sigmoid": _sigmoid,
    "where": lambda _, condition, a, b: np.where(condition, a, b),
}

ELEMENTWISE: dict[str, Callable] = {
    **{f"relax.{name}": _unary(f) for name, f in _UNARY.items()},
    **{f"relax.{name}": _binary(f) for name, f in _BINARY.items()},
    **{f"relax.{name}": f for name, f in _OTHER.items()},
}
"""Full operator name to ``f(attrs, *arrays)``; operands broadcast as NumPy's do."""
