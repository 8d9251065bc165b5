from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.context import Options, PassContext, TensorView
from bnncc.passes.decide_sign_zero import decide_sign_zero
from bnncc.passes.rewrite import Graph, const

from .programs import binarized, bindings, module, results, rewritten, signs, unchanged

X = ((3, 8), "float32")
W = signs(np.random.default_rng(0), 5, 8)
BOTH = np.array([0, 1e-45], np.float32)
ONE = np.int8(1)


def choosing(sign_zero: str) -> PassContext:
    return PassContext(Options(sign_zero=sign_zero))


@pytest.mark.parametrize("choice, kept", [("plus", 0), ("minus", 1)])
def test_one_of_the_two_thresholds_is_dropped(choice, kept):
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((3, 8), "float32")):
            with R.dataflow():
                c = R.bnn.quantize(x, R.const(BOTH), R.const(ONE, "int8"), lo=-1, step=1, sign=1)
                n = R.bnn.dense(c, R.const(W, "int8"))
                R.output(n)
            return n

    one = BOTH[kept : kept + 1]

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((3, 8), "float32")):
            with R.dataflow():
                c = R.bnn.quantize(x, R.const(one), R.const(ONE, "int8"), lo=-1, step=2)
                n = R.bnn.dense(c, R.const(W, "int8"))
                R.output(n)
            return n

    tvm.ir.assert_structural_equal(decide_sign_zero(Before, choosing(choice)), Expected)


@pytest.mark.parametrize("choice, value", [("plus", 1), ("minus", -1)])
@pytest.mark.parametrize("flip", [1, -1])
def test_zero_becomes_what_was_asked_for_and_nothing_else_changes(choice, value, flip):
    thresholds = BOTH if flip == 1 else -BOTH
    weights = (2 * np.eye(8, dtype=np.int8) - 1).astype(np.int8)
    build = lambda x: bnn.dense(bnn.quantize(x, const(thresholds), const(np.int8(flip)), -1, 1, 1), const(weights))  # noqa: E731
    after = decide_sign_zero(module(build, X), choosing(choice))
    x = np.array([0.0, -0.0, 1e-45, -1e-45, 2, -2, 1e30, -1e30], np.float32) * np.ones((3, 1), np.float32)
    (got,) = results(after, [x])
    np.testing.assert_array_equal(got, np.where(x == 0, value, flip * np.sign(x)) @ weights.T)


def layer(make):
    return module(lambda x: bnn.dense(make(x), const(W)), X)


def test_exact_keeps_the_zero_and_the_report_names_the_sign():
    mod = layer(lambda x: binarized(x, ternary=True))
    ctx = choosing("exact")
    ctx.tensors[Graph(mod).bindings[0].var.name] = TensorView("sign7")
    unchanged(decide_sign_zero, mod, ctx)
    assert ctx.sign_zeros == {"sign7": 8}


MOVED = {
    "moved": lambda x: op.reshape(op.permute_dims(op.reshape(binarized(x, True), (3, 2, 4)), [0, 2, 1]), (3, 8)),
    "joined": lambda x: op.concat([op.strided_slice(binarized(x, True), [1], [0], [3]), op.strided_slice(binarized(x), [1], [3], [8])], 1),
    "pooled": lambda x: op.reshape(
        bnn.max_pool2d(op.reshape(binarized(x, True), (3, 2, 2, 2)), const(np.ones(2, np.int8)), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)), (3, 8)
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_signs_that_reach_the_layer_through_movement_are_meant_too(name):
    after = decide_sign_zero(layer(MOVED[name]), choosing("plus"))
    assert all(call.attrs.step == 2 for call in bindings(after, "bnn.quantize"))


def test_a_sign_that_no_binary_layer_reads_keeps_its_zero():
    ctx = choosing("plus")
    unchanged(decide_sign_zero, module(lambda x: binarized(x, True), X), ctx)
    assert ctx.sign_zeros == {}


def test_two_valued_signs_stay():
    ctx = choosing("plus")
    unchanged(decide_sign_zero, layer(binarized), ctx)
    assert ctx.sign_zeros == {}


def test_only_the_sign_right_in_front_of_the_layer_is_meant():
    """The accumulator of the first layer ends what the second layer's bits are moved from."""
    inner = lambda x: bnn.dense(binarized(x, True), const(signs(np.random.default_rng(1), 8, 8)))  # noqa: E731
    outer = lambda x: binarized(op.astype(inner(x), "float32"), True)  # noqa: E731
    mod = module(lambda x: outer(x), X)
    after = decide_sign_zero(mod, choosing("minus"))
    assert [call.attrs.step for call in bindings(after, "bnn.quantize")] == [2, 1]


def test_a_sign_that_is_added_to_numbers_keeps_its_zero():
    def build(x):
        shortcut = bnn.dequantize(binarized(x, True), const(np.float32(1)), const(np.float32(0)))
        return bnn.dense(binarized(op.add(shortcut, x), True), const(W))

    after = decide_sign_zero(module(build, X), choosing("plus"))
    assert [call.attrs.step for call in bindings(after, "bnn.quantize")] == [1, 2]


def test_exact_computes_the_same():
    rewritten(decide_sign_zero, layer(lambda x: binarized(x, ternary=True)), choosing("exact"))


def test_a_level_0_of_a_ternary_quantizer_is_no_sign_of_zero():
    build = lambda x: bnn.dense(bnn.quantize(x, const(np.array([-0.5, 0.5], np.float32)), const(ONE), -1, 1), const(W))  # noqa: E731
    unchanged(decide_sign_zero, module(build, X), choosing("plus"))
