"""Running modules: functions, tuples, observation, and what the interpreter refuses."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.errors import InternalError
from bnncc.ops.interpreter import evaluate_call, evaluate_elementwise, is_elementwise, run_module

from .dialect import module_of


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_chain_is_rounded_at_every_step():
    x = np.array([16777217, 3], np.int32)
    chain = run_module(module_of(lambda v: op.divide(op.astype(v, "float32"), relax.const(np.float32(3))), x), x)
    assert chain.dtype == np.float32
    assert chain.tolist() == [float(np.float32(16777216) / np.float32(3)), 1.0]


def test_tuples_are_returned_as_tuples():
    x = floats(4)
    first, second = run_module(module_of(lambda a: relax.Tuple([op.negative(a), op.abs(a)]), x), x)
    np.testing.assert_array_equal(first, -x)
    np.testing.assert_array_equal(second, np.abs(x))


def _two_functions():
    x = relax.Var("x", relax.TensorType((3,), "float32"))
    y = relax.Var("y", relax.TensorType((3,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("inner", [y]):
        builder.emit_func_output(builder.emit(op.negative(y), "inside"))
    inner = builder.get().get_global_var("inner")
    with builder.function("main", [x]):
        with builder.dataflow():
            doubled = builder.emit(op.add(x, x), "doubled")
            out = builder.emit_output(relax.Call(inner, [doubled]), "out")
        builder.emit_func_output(out)
    return builder.get()


def test_functions_call_one_another_and_every_binding_is_observed():
    seen = {}
    x = np.array([1, 2, 3], np.float32)
    result = run_module(_two_functions(), x, observe=seen.__setitem__)
    assert result.tolist() == [-2, -4, -6]
    assert {k: v.tolist() for k, v in seen.items()} == {"doubled": [2, 4, 6], "inside": [-2, -4, -6], "out": [-2, -4, -6]}


def test_another_entry_can_be_run():
    assert run_module(_two_functions(), np.ones(3, np.float32), entry="inner").tolist() == [-1, -1, -1]


def test_elementwise_operators_are_told_apart():
    assert is_elementwise("relax.add") and not is_elementwise("relax.nn.softmax")


def _fails(message, build, *arrays, feed=None):
    with pytest.raises(InternalError, match=message):
        run_module(module_of(build, *arrays), *(arrays if feed is None else feed))


def test_an_operator_without_meaning_is_refused():
    _fails("relax.sort has no NumPy meaning", lambda a: op.sort(a), floats(3))


def test_an_elementwise_evaluation_of_anything_else_is_refused():
    with pytest.raises(InternalError, match="relax.nn.softmax is not an elementwise"):
        evaluate_elementwise("relax.nn.softmax", None, floats(3))


def test_a_missing_entry_is_refused():
    with pytest.raises(InternalError, match="no function 'other'; it has main"):
        run_module(module_of(op.abs, floats(3)), floats(3), entry="other")


@pytest.mark.parametrize("feed", [[], [floats(3), floats(3)]])
def test_the_number_of_arrays_has_to_fit(feed):
    _fails("takes 1 arrays", op.abs, floats(3), feed=feed)


@pytest.mark.parametrize("feed", [floats(4), floats(3).astype(np.float64)])
def test_shape_and_dtype_of_an_array_have_to_fit(feed):
    _fails(r"a0 is float32\[3\]", op.abs, floats(3), feed=[feed])


def test_a_branch_is_refused():
    x = relax.Var("x", relax.TensorType((3,), "float32"))
    y = relax.Var("y", x.ty)
    builder = relax.BlockBuilder()
    condition = relax.Var("c", relax.TensorType((), "bool"))
    body = builder.normalize(relax.SeqExpr([relax.BindingBlock([relax.VarBinding(y, relax.If(condition, x, x))])], y))
    mod = tvm.IRModule({"main": relax.Function([condition, x], body, x.ty)})
    with pytest.raises(InternalError, match="not If"):
        run_module(mod, np.array(True), floats(3))


def test_a_checked_cast_is_refused():
    x = relax.Var("x", relax.TensorType((3,), "float32"))
    y = relax.Var("y", x.ty)
    body = relax.BlockBuilder().normalize(relax.SeqExpr([relax.BindingBlock([relax.MatchCast(y, x, x.ty)])], y))
    with pytest.raises(InternalError, match="y is bound by a MatchCast"):
        run_module(tvm.IRModule({"main": relax.Function([x], body, x.ty)}), floats(3))


def test_a_result_that_contradicts_its_type_is_refused():
    mod = module_of(op.add, floats(3), floats(3))
    call = mod["main"].body.blocks[0].bindings[0].value
    with pytest.raises(InternalError, match=r"relax.add gives \[2\]"):
        evaluate_call(call, [floats(2), floats(2)])
