from __future__ import annotations

import itertools

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.recognise_logic import recognise_logic
from bnncc.passes.rewrite import Graph, const

from .programs import binarized, bindings, module, operators, rewritten, unchanged

X = ((4, 9), "float32")
ZERO = np.zeros(1, np.float32)
ONE = np.int8(1)
f = lambda v: const(np.float32(v))  # noqa: E731


def sign_of(x, ternary=False, scale=1.0, offset=0.0):
    """Bind the real value of the sign of `x`, so that several operators read the same one."""
    return relax.BlockBuilder.current().emit(bnn.dequantize(binarized(x, ternary), f(scale), f(offset)))


def program(function, count=2, ternary=()):
    """Return a module that combines the signs of `count` tensors."""
    return module(lambda *xs: function(*(sign_of(x, i in ternary) for i, x in enumerate(xs))), *[X] * count)


def test_the_product_of_two_signs_is_their_xnor():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 9), "float32"), y: R.Tensor((4, 9), "float32")):
            with R.dataflow():
                a = R.bnn.quantize(x, R.const(ZERO), R.const(ONE, "int8"))
                b = R.bnn.quantize(y, R.const(ZERO), R.const(ONE, "int8"))
                p = R.bnn.dequantize(a, R.const(1.0, "float32"), R.const(0.0, "float32"))
                q = R.bnn.dequantize(b, R.const(1.0, "float32"), R.const(0.0, "float32"))
                z = R.multiply(p, q)
                R.output(z)
            return z

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((4, 9), "float32"), y: R.Tensor((4, 9), "float32")):
            with R.dataflow():
                a = R.bnn.quantize(x, R.const(ZERO), R.const(ONE, "int8"))
                b = R.bnn.quantize(y, R.const(ZERO), R.const(ONE, "int8"))
                c = R.bnn.logic(a, b, table=[1, -1, -1, 1])
                z = R.bnn.dequantize(c, R.const(1.0, "float32"), R.const(0.0, "float32"))
                R.output(z)
            return z

    tvm.ir.assert_structural_equal(rewritten(recognise_logic, Before), Expected)


TWO = {
    "and": (lambda a, b: op.minimum(a, b), lambda a, b: min(a, b)),
    "or": (lambda a, b: op.maximum(a, b), lambda a, b: max(a, b)),
    "or as a clipped sum": (
        lambda a, b: op.subtract(op.multiply(op.clip(op.multiply(op.add(op.add(a, b), f(2)), f(0.5)), 0, 1), f(2)), f(1)),
        lambda a, b: max(a, b),
    ),
    "and not": (lambda a, b: op.minimum(a, op.negative(b)), lambda a, b: min(a, -b)),
    "nand": (lambda a, b: op.negative(op.minimum(a, b)), lambda a, b: -min(a, b)),
    "exclusive or": (lambda a, b: op.multiply(op.negative(a), b), lambda a, b: -a * b),
    "a choice of signs": (lambda a, b: op.where(op.greater(a, f(0)), b, op.negative(b)), lambda a, b: a * b),
}


@pytest.mark.parametrize("name", TWO)
def test_tables_of_two_signs(name):
    build, meaning = TWO[name]
    after = rewritten(recognise_logic, program(build))
    (call,) = bindings(after, "bnn.logic")
    assert list(call.attrs.table) == [meaning(a, b) for b, a in itertools.product((1, -1), repeat=2)]
    assert operators(after) == ["bnn.quantize", "bnn.quantize", "bnn.logic", "bnn.dequantize"]


@pytest.mark.parametrize("count", [3, 5])
def test_a_majority_is_the_sign_of_a_sum(count):
    def majority(*signs):
        total = signs[0]
        for s in signs[1:]:
            total = op.add(total, s)
        return bnn.quantize(total, const(ZERO), const(ONE))

    after = rewritten(recognise_logic, program(majority, count))
    (call,) = bindings(after, "bnn.logic")
    assert list(call.attrs.table) == [1 if sum(row) > 0 else -1 for row in itertools.product((1, -1), repeat=count)]
    assert "bnn.dequantize" not in operators(after)


def test_inner_steps_of_the_same_signs_get_no_table():
    after = rewritten(recognise_logic, program(lambda a, b: op.minimum(op.maximum(a, b), op.multiply(op.negative(a), b))))
    assert len(bindings(after, "bnn.logic")) == 1


def test_a_function_of_one_sign_is_its_scale_and_offset():
    after = rewritten(recognise_logic, program(lambda a: op.add(op.multiply(op.negative(a), f(3)), f(1)), 1))
    assert operators(after) == ["bnn.quantize", "bnn.dequantize"]
    assert [c.value.numpy().item() for c in bindings(after, "bnn.dequantize")[0].args[1:]] == [-3, 1]


@pytest.mark.parametrize("build, table", [(op.abs, [1, -1, 1]), (lambda a: op.subtract(op.multiply(a, a), f(0.5)), [1, -1, 1])])
def test_two_values_of_a_plain_sign_are_a_table_of_its_three(build, table):
    after = rewritten(recognise_logic, program(build, 1, (0,)))
    (call,) = bindings(after, "bnn.logic")
    assert (list(call.attrs.table), list(call.attrs.levels)) == (table, [3])


def test_two_values_that_are_not_signs_keep_their_scale():
    after = rewritten(recognise_logic, program(lambda a, b: op.add(op.multiply(op.multiply(a, b), f(0.25)), f(2))))
    assert [c.value.numpy().item() for c in bindings(after, "bnn.dequantize")[0].args[1:]] == [0.25, 2]


def test_truth_values_stay_truth_values():
    mod = program(lambda a, b: op.logical_and(op.greater(a, f(0)), op.greater(b, f(0))))
    after = rewritten(recognise_logic, mod)
    assert operators(after) == ["bnn.quantize", "bnn.quantize", "bnn.logic", "bnn.dequantize", "greater"]


THREE = {
    "product": (lambda a, b: op.multiply(a, b), lambda a, b: a * b),
    "maximum": (lambda a, b: op.maximum(a, b), max),
    "minimum of the opposite": (lambda a, b: op.minimum(op.negative(a), b), lambda a, b: min(-a, b)),
}


@pytest.mark.parametrize("ternary", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("name", THREE)
def test_the_zero_of_a_plain_sign_is_a_third_value(name, ternary):
    build, meaning = THREE[name]
    after = rewritten(recognise_logic, program(build, 2, ternary))
    (call,) = bindings(after, "bnn.logic")
    digits = [(1, 0, -1) if i in ternary else (1, -1) for i in range(2)]
    assert list(call.attrs.levels) == [len(d) for d in digits]
    assert list(call.attrs.table) == [meaning(a, b) for b in digits[1] for a in digits[0]]


def test_three_values_without_a_plain_sign_are_no_code():
    """A sum of two signs takes -2, 0, +2: made of bits, it stays a float sum."""
    unchanged(recognise_logic, program(lambda a, b: op.add(a, b)))


def test_unevenly_spaced_values_are_no_code():
    squared = lambda a, b: op.power(op.add(op.maximum(a, b), f(2)), f(2))  # 1, 4, 9  # noqa: E731
    after = rewritten(recognise_logic, program(squared, 2, (0, 1)))
    assert operators(after)[-1] == "power"


def test_a_constant_result_is_left_alone():
    unchanged(recognise_logic, program(lambda a: op.multiply(a, a), 1))


def test_another_function_in_every_channel_is_no_table():
    gains = const(np.linspace(-1, 1, 9, dtype=np.float32))
    unchanged(recognise_logic, program(lambda a, b: op.add(op.multiply(a, gains), b)))


def test_more_signs_than_a_table_holds_stay_arithmetic():
    def product(*signs):
        total = signs[0]
        for s in signs[1:]:
            total = op.multiply(total, s)
        return total

    after = rewritten(recognise_logic, program(product, 8))
    assert all(len(call.args) <= 6 for call in bindings(after, "bnn.logic"))


def test_a_product_with_a_real_tensor_is_no_logic():
    unchanged(recognise_logic, module(lambda x, y: op.multiply(sign_of(x), y), X, X))


def test_broadcasting_signs_are_no_logic():
    unchanged(recognise_logic, module(lambda x, y: op.multiply(sign_of(x), sign_of(y)), X, ((9,), "float32")))


def test_an_inner_result_that_another_reads_gets_a_table_of_its_own():
    def build(a, b):
        product = relax.BlockBuilder.current().emit(op.multiply(a, b))
        return op.maximum(product, a), op.permute_dims(product)

    after = rewritten(recognise_logic, program(build))
    assert len(bindings(after, "bnn.logic")) == 2


def test_running_twice_changes_nothing_more():
    unchanged(recognise_logic, recognise_logic(program(lambda a, b: op.multiply(a, b)), PassContext()))


def test_codes_of_logic_are_views_of_the_tensor_they_stand_for():
    mod = program(lambda a, b: op.multiply(op.multiply(a, b), f(0.5)))
    ctx = PassContext(tensors={Graph(mod).outputs[0].name: TensorView("onnx")})
    names = [b.var.name for b in Graph(recognise_logic(mod, ctx)).bindings]
    (code,) = set(names) & set(ctx.tensors) - {Graph(mod).outputs[0].name}
    assert ctx.tensors[code] == TensorView("onnx", None, 0.5, 0.0)
