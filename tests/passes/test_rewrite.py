from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.errors import InternalError
from bnncc.passes.rewrite import Builder, Graph, Rewriter, const, constant, op_name, substitute, used_vars


@I.ir_module
class Diamond:
    @R.function
    def main(x: R.Tensor((4,), "float32")):
        with R.dataflow():
            a = R.negative(x)
            b = R.add(a, R.const(1.0, "float32"))
            c = R.multiply(a, b)
            dead = R.sign(c)  # noqa: F841
            R.output(b, c)
        return (b, c)


def _named(mod):
    return {b.var.name: b for b in Graph(mod).bindings}


def test_a_graph_knows_values_users_constants_and_outputs():
    graph = Graph(Diamond)
    by_name = {b.var.name: b.var for b in graph.bindings}
    a, b, c = by_name["a"], by_name["b"], by_name["c"]
    assert graph.op(b) == "relax.add" and graph.op(graph.params[0]) is None
    assert graph.value(graph.params[0]) is None
    assert [u.name for u in graph.users(a)] == ["b", "c"] and [u.name for u in graph.users(c)] == ["dead"]
    assert graph.constant(graph.value(b).args[1]) == 1.0 and graph.constant(a) is None
    assert graph.is_output(b) and graph.is_output(c) and not graph.is_output(a)
    assert graph.is_tuple and [o.name for o in graph.outputs] == ["b", "c"]


def test_constants_keep_shape_and_dtype():
    for array in (np.array([True, False]), np.float32(1), np.zeros((0, 3), np.uint64), np.arange(6, dtype=np.int8).reshape(2, 3).T):
        made = constant(const(array))
        assert made.dtype == np.asarray(array).dtype and made.shape == np.shape(array)
        np.testing.assert_array_equal(made, array)
    assert constant(relax.Var("x", relax.TensorType((1,), "float32"))) is None


def test_used_vars_look_into_tuples():
    x, y = (relax.Var(n, relax.TensorType((2,), "float32")) for n in "xy")
    assert [v.name for v in used_vars(op.concat([x, y, x]))] == ["x", "y", "x"]
    pair = relax.Var("p", relax.TupleType([x.ty, y.ty]))
    assert [v.name for v in used_vars(relax.TupleGetItem(pair, 0))] == ["p"]


def test_substitute_leaves_what_does_not_change():
    x, y, z = (relax.Var(n, relax.TensorType((2,), "float32")) for n in "xyz")
    call = op.concat([x, y])
    assert substitute(call, {z: x}).same_as(call)
    assert [v.name for v in used_vars(substitute(call, {x: z}))] == ["z", "y"]


class _AddBecomesSubtract(Rewriter):
    def rewrite(self, var, value, builder):
        if op_name(value) == "relax.add":
            less = builder.emit(op.negative(value.args[1]) if not isinstance(value.args[1], relax.Var) else value.args[1], "b")
            return op.subtract(value.args[0], less)
        return None


def test_a_rewritten_binding_keeps_its_name_and_new_ones_get_fresh_names():
    mod = _AddBecomesSubtract(Diamond).run()
    assert [(b.var.name, op_name(b.value)) for b in Graph(mod).bindings] == [
        ("a", "relax.negative"),
        ("b_1", "relax.negative"),
        ("b", "relax.subtract"),
        ("c", "relax.multiply"),
    ]
    relax.analysis.well_formed(mod)


def test_what_nothing_reads_is_dropped():
    assert "dead" in _named(Diamond) and "dead" not in _named(_AddBecomesSubtract(Diamond).run())


class _DropNegative(Rewriter):
    def rewrite(self, var, value, builder):
        return value.args[0] if op_name(value) == "relax.negative" else None


def test_a_variable_takes_the_place_of_another():
    mod = _DropNegative(Diamond).run()
    assert _named(mod)["b"].value.args[0].name == "x"


@I.ir_module
class Negated:
    @R.function
    def main(x: R.Tensor((4,), "float32")):
        with R.dataflow():
            y = R.negative(x)
            R.output(y)
        return y


def test_a_function_may_return_its_parameter():
    mod = _DropNegative(Negated).run()
    assert [o.name for o in Graph(mod).outputs] == ["x"] and Graph(mod).bindings == []
    relax.analysis.well_formed(mod)


class _ToConstant(Rewriter):
    def rewrite(self, var, value, builder):
        return const(np.ones(4, np.float32)) if op_name(value) == "relax.negative" else None


def test_a_constant_takes_the_place_of_a_variable():
    mod = _ToConstant(Diamond).run()
    np.testing.assert_array_equal(constant(_named(mod)["b"].value.args[0]), np.ones(4))
    np.testing.assert_array_equal(constant(Graph(_ToConstant(Negated).run()).outputs[0]), np.ones(4))


def test_attributes_and_other_functions_are_kept():
    other = Negated["main"].with_attr("global_symbol", "other")
    mod = tvm.IRModule({"main": Diamond["main"].with_attr("kept", 7), "other": other})
    out = _AddBecomesSubtract(mod).run()
    assert out["main"].attrs["kept"] == 7
    tvm.ir.assert_structural_equal(out["other"], other)


def test_odd_names_survive():
    x = relax.Var("x:0", relax.TensorType((2,), "float32"))
    builder = Builder({"x:0"})
    y = builder.bind(op.negative(x), "block/conv.1:0")
    assert (y.name, builder.fresh("block/conv.1:0")) == ("block/conv.1:0", "block/conv.1:0_1")
    assert builder.emit(y) is y


def test_a_missing_function_is_named():
    with pytest.raises(InternalError, match="no function 'other'; it has main"):
        Graph(Diamond, "other")


def test_a_branch_is_no_straight_line():
    x, y = (relax.Var(n, relax.TensorType((3,), "float32")) for n in "xy")
    c = relax.Var("c", relax.TensorType((), "bool"))
    body = relax.BlockBuilder().normalize(relax.SeqExpr([relax.BindingBlock([relax.VarBinding(y, relax.If(c, x, x))])], y))
    with pytest.raises(InternalError, match="not straight-line"):
        Graph(tvm.IRModule({"main": relax.Function([c, x], body, x.ty)}))


def test_a_call_that_does_not_type_check_is_our_bug():
    x, y = relax.Var("x", relax.TensorType((3,), "float32")), relax.Var("y", relax.TensorType((4,), "float32"))
    with pytest.raises(InternalError, match="relax.add that does not type-check"):
        Builder(set()).emit(op.add(x, y))


def test_the_base_rewrites_nothing_by_itself():
    with pytest.raises(NotImplementedError):
        Rewriter(Diamond).run()
