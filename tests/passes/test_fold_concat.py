from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.fold_concat import fold_concat
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, unchanged

T = np.array([[0.0, -0.5, 0.25, 1, -1]], np.float32)
FLIP = np.array([1, -1, 1, -1, -1], np.int8)
A, B = ((1, 3, 4, 2), "float32"), ((1, 3, 4, 3), "float32")
emit = lambda expr: relax.BlockBuilder.current().emit(expr)  # noqa: E731


def quantized(x, thresholds=T, flip=FLIP):
    return bnn.quantize(x, const(thresholds), const(flip))


def joined(*parts, axis=3):
    return emit(op.concat(parts, axis=axis))


def test_each_part_is_quantized_with_its_own_thresholds():
    @I.ir_module
    class Before:
        @R.function
        def main(a: R.Tensor((1, 3, 4, 2), "float32"), b: R.Tensor((1, 3, 4, 3), "float32")):
            with R.dataflow():
                x = R.concat((a, b), axis=3)
                q = R.bnn.quantize(x, R.const(T), R.const(FLIP, "int8"))
                R.output(q)
            return q

    @I.ir_module
    class Expected:
        @R.function
        def main(a: R.Tensor((1, 3, 4, 2), "float32"), b: R.Tensor((1, 3, 4, 3), "float32")):
            with R.dataflow():
                qa = R.bnn.quantize(a, R.const(T[:, :2]), R.const(FLIP[:2], "int8"))
                qb = R.bnn.quantize(b, R.const(T[:, 2:]), R.const(FLIP[2:], "int8"))
                q = R.concat((qa, qb), axis=3)
                R.output(q)
            return q

    tvm.ir.assert_structural_equal(rewritten(fold_concat, Before), Expected)


def test_features_that_grow_layer_by_layer_are_never_joined_for_a_quantizer():
    def dense(a, b):
        first = joined(a, b)
        second = joined(first, a)
        return quantized(first), quantized(second, np.zeros((1, 7), np.float32), np.int8(1))

    after = rewritten(fold_concat, module(dense, A, B))
    assert operators(after).count("bnn.quantize") == 5
    assert [str(c.args[0].fields[0].ty.dtype) for c in bindings(after, "concat")] == ["int8", "int8"]


@pytest.mark.parametrize("swapped", [False, True])
def test_zeros_that_pad_a_sum_leave_the_other_parts_alone(swapped):
    def improved(a, b, w):
        padded = emit(op.nn.pad(w, [0, 0, 0, 0, 0, 0, 2, 0]))
        x = joined(a, b)
        return quantized(emit(op.add(padded, x) if swapped else op.add(x, padded)))

    after = rewritten(fold_concat, module(improved, A, B, B))
    assert operators(after) == ["add", "bnn.quantize", "bnn.quantize", "concat"]
    assert tuple(int(d) for d in bindings(after, "add")[0].args[0].ty.shape.values) == B[0]


def test_a_sum_may_reach_over_several_parts():
    def improved(a, b, w):
        return emit(op.add(joined(a, a, b), emit(op.nn.pad(w, [0, 0, 0, 0, 0, 0, 2, 0]))))

    after = rewritten(fold_concat, module(improved, A, B, ((1, 3, 4, 5), "float32")))
    assert operators(after) == ["concat", "add", "concat"]


STAYING = {
    "another axis": lambda a, b: quantized(joined(a, a, axis=1), T[:, :2], FLIP[:2]),
    "no concatenation": lambda a, b: quantized(emit(op.nn.relu(a)), T[:, :2], FLIP[:2]),
    "a sum padded with something else": lambda a, b: op.add(joined(a, b), emit(op.nn.pad(b, [0, 0, 0, 0, 0, 0, 2, 0], "constant", 1.0))),
    "a sum whose border is inside a part": lambda a, b: op.add(joined(a, b), emit(op.nn.pad(b, [0, 0, 0, 0, 0, 0, 1, 1]))),
    "a sum padded in space": lambda a, b: op.add(
        joined(a, a), emit(op.nn.pad(emit(op.nn.max_pool2d(joined(a, a), (2, 1), layout="NHWC")), [0, 0, 1, 0, 0, 0, 0, 0]))
    ),
}


@pytest.mark.parametrize("name", STAYING)
def test_anything_else_stays(name):
    unchanged(fold_concat, module(STAYING[name], A, B))
