"""Every elementwise operator of an epilogue, alone and in chains, against its NumPy meaning."""

from __future__ import annotations

import numpy as np
import pytest
from group_runner import CompiledGroup, assembly, check_exact, group, meaning
from tvm import relax
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.targets.x86 import V3

SHAPE = (1, 3, 2, 21)


def values(seed=0, shape=SHAPE):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 3
    x.reshape(-1)[:6] = [0, -0.0, 0.5, 1.5, -2.5, 2.5]
    return x


EXACT = {
    "add": R.add,
    "subtract": R.subtract,
    "multiply": R.multiply,
    "divide": R.divide,
    "maximum": R.maximum,
    "minimum": R.minimum,
}


@pytest.mark.parametrize("shape", [SHAPE, (21,), (1, 1, 1, 21), (1, 3, 2, 1), (1, 1, 2, 21), (1, 1, 1, 1), (3, 1, 1)])
@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
def test_binary_operators_broadcast(op, shape, tmp_path):
    arrays = [values(), values(1, shape) if np.prod(shape) > 5 else np.full(shape, 1.7, np.float32)]
    check_exact(group(lambda b, x, y: EXACT[op](x, y), *((a.shape, "float32") for a in arrays)), arrays, tmp_path)


UNARY = {
    "clip": lambda x: R.clip(x, -1.5, 2.25),
    "negative": R.negative,
    "abs": R.abs,
    "sign": R.sign,
    "floor": R.floor,
    "ceil": R.ceil,
    "round": R.round,
    "relu": R.nn.relu,
    "relu6": R.nn.relu6,
    "rsqrt": lambda x: R.rsqrt(x),
    "leakyrelu": lambda x: R.nn.leakyrelu(x, 0.1),
    "int32": lambda x: R.astype(x, "int32"),
    "bool": lambda x: R.astype(x, "bool"),
    "greater": lambda x: R.greater(x, R.const(0.5, "float32")),
    "square": lambda x: R.power(x, R.const(2.0, "float32")),
    "cube": lambda x: R.power(x, R.const(3.0, "float32")),
}


@pytest.mark.parametrize("op", UNARY)
def test_unary_operators_are_exact(op, tmp_path):
    check_exact(group(lambda b, x: UNARY[op](x), (SHAPE, "float32")), [values()], tmp_path)


@pytest.mark.parametrize("op", ["sqrt", "exp", "log", "tanh", "sigmoid", "power", "silu"])
def test_transcendental_operators_are_near_and_call_libm_only(op, tmp_path):
    call = {"power": lambda x: R.power(x, R.const(1.7, "float32")), "silu": R.nn.silu}.get(op) or getattr(R, op)
    function = group(lambda b, x: call(x), (SHAPE, "float32"))
    x = values() if op in ("exp", "tanh", "sigmoid", "silu") else np.abs(values()) + 1e-3
    (got,), (expected,) = CompiledGroup(function, tmp_path)(x), meaning(function, [x])
    np.testing.assert_allclose(got, expected, rtol=2e-6)
    calls = {line.split()[1].split("@")[0] for line in assembly(function, V3).splitlines() if line.strip().startswith("call")}
    assert calls <= {"expf", "logf", "tanhf", "powf"}, calls


def test_logic_and_choice_on_booleans(tmp_path):
    arrays = [values(2), values(3)]

    def emit(b, x, y):
        p, q = b.emit(R.less(x, y)), b.emit(R.less_equal(x, R.const(0.0, "float32")))
        both, either = b.emit(R.logical_and(p, q)), b.emit(R.logical_or(p, b.emit(R.logical_not(q))))
        return R.where(both, x, b.emit(R.astype(either, "float32")))

    check_exact(group(emit, (SHAPE, "float32"), (SHAPE, "float32")), arrays, tmp_path)


def test_products_are_rounded_before_they_are_added(tmp_path):
    """(1 + e)(1 - e) - 1 is 0 with two roundings and -e*e with one."""
    e = np.float32(2.0**-12)
    arrays = [np.full((1, 9), 1 + e, np.float32), np.full((9,), 1 - e, np.float32), np.full((9,), -1, np.float32)]
    function = group(lambda b, x, s, t: R.add(b.emit(R.multiply(x, s)), t), *((a.shape, "float32") for a in arrays), constants=(1, 2))
    check_exact(function, arrays, tmp_path)
    assert "fma" not in assembly(function, V3) and "fmsub" not in assembly(function, V3)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("constant", [True, False])
def test_quantize_counts_thresholds_in_both_directions(dtype, constant, tmp_path):
    rng = np.random.default_rng(4)
    x = rng.integers(-9, 10, SHAPE).astype(dtype)
    t = rng.integers(-5, 6, (1, 21)).astype(dtype)
    if dtype == "int32":
        t[0, :4] = [2**31 - 1, -(2**31), 0, -1]
    else:
        t[0, :2] = [np.inf, -np.inf]
    flip = rng.choice(np.array([-1, 1], np.int8), 21)
    function = group(lambda b, x, t, f: bnn.quantize(x, t, f), (SHAPE, dtype), ((1, 21), dtype), ((21,), "int8"), constants=(1, 2) if constant else ())
    check_exact(function, [x, t, flip], tmp_path)


def test_dequantize_and_prelu_follow_each_other(tmp_path):
    codes = np.random.default_rng(5).integers(-4, 5, SHAPE).astype(np.int8)
    slope = values(6, (21,))

    def emit(b, x, s):
        y = b.emit(bnn.dequantize(x, relax.const(np.float32(0.3)), relax.const(np.float32(-0.1))))
        return R.nn.prelu(y, s, axis=3)

    check_exact(group(emit, (SHAPE, "int8"), ((21,), "float32"), constants=(1,)), [codes, slope], tmp_path)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 2, 3, 9)])
def test_any_rank_is_walked(shape, tmp_path):
    x = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    check_exact(group(lambda b, v: R.nn.relu(b.emit(R.subtract(v, R.const(0.25, "float32")))), (shape, "float32")), [x], tmp_path)


def test_values_read_many_times_in_a_long_chain_stay_linear(tmp_path):
    """Forty operators that each read their input twice: exponential if a value were substituted instead of kept."""

    def emit(b, x):
        for _ in range(40):
            x = b.emit(R.add(b.emit(R.multiply(x, R.const(0.5, "float32"))), b.emit(R.nn.relu(x))))
        return R.negative(x)

    function = group(emit, ((1, 16), "float32"))
    check_exact(function, [values(7, (1, 16))], tmp_path)
    assert len(assembly(function, V3).splitlines()) < 800


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_slopes_of_prelu_lie_along_any_axis(axis, tmp_path):
    x, slope = values(7, (7, 6, 9, 21)), values(8, ((7, 6, 9, 21)[axis],))
    shape = [-1 if a == axis else 1 for a in range(4)]
    function = group(lambda b, x, s: R.nn.prelu(x, s, axis=axis), (x.shape, "float32"), (slope.shape, "float32"), constants=(1,))
    (got,) = CompiledGroup(function, tmp_path)(x, slope)
    np.testing.assert_array_equal(got, np.where(x > 0, x, x * slope.reshape(shape)))


def test_a_chain_may_be_longer_than_pythons_stack(tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
    steps = np.random.default_rng(1).standard_normal(400).astype(np.float32)

    def emit(b, x):
        y = x
        for step in steps:
            y = b.emit(R.add(y, b.emit(R.maximum(x, R.const(step)))))
        return y

    check_exact(group(emit, ((3, 40), "float32")), [x], tmp_path)
