from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.fold_pool import fold_pool
from bnncc.passes.rewrite import const

from .programs import binarized, bindings, module, operators, rewritten, unchanged

SHAPE = (2, 7, 6, 3)
T = np.array([[0.0, -0.5, 0.25]], np.float32)
FLIP = np.array([1, -1, 1], np.int8)


def quantized(x, thresholds=T, flip=FLIP, step=2):
    return bnn.quantize(x, const(thresholds), const(flip), -1, step)


def test_a_quantizer_comes_before_the_pool():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 7, 6, 3), "float32")):
            with R.dataflow():
                p = R.nn.max_pool2d(x, [2, 2], [2, 2], layout="NHWC")
                q = R.bnn.quantize(p, R.const(T), R.const(FLIP, "int8"))
                R.output(q)
            return q

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 7, 6, 3), "float32")):
            with R.dataflow():
                q = R.bnn.quantize(x, R.const(T), R.const(FLIP, "int8"))
                p = R.bnn.max_pool2d(q, R.const(FLIP, "int8"), [2, 2], [2, 2], [0, 0, 0, 0], [1, 1])
                R.output(p)
            return p

    tvm.ir.assert_structural_equal(rewritten(fold_pool, Before), Expected)


POOLS = [
    {"pool_size": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)},
    {"pool_size": (2, 3), "strides": (2, 2), "ceil_mode": True},
    {"pool_size": (3, 3), "strides": (3, 3), "padding": (1, 0, 1, 1), "ceil_mode": True},
    {"pool_size": (2, 2), "dilation": (3, 2)},
]


@pytest.mark.parametrize("attributes", POOLS, ids=str)
@pytest.mark.parametrize("levels", [2, 3])
def test_thresholds_ties_and_padding_commute_with_the_maximum(attributes, levels):
    thresholds = T if levels == 2 else np.concatenate([T, T + FLIP * np.float32(0.5)])
    pool = lambda x: quantized(op.nn.max_pool2d(x, layout="NHWC", **attributes), thresholds, FLIP, 4 - levels)  # noqa: E731
    x = np.random.default_rng(0).integers(-4, 5, SHAPE).astype(np.float32) / 4
    assert operators(rewritten(fold_pool, module(pool, (SHAPE, "float32")), None, x)) == ["bnn.quantize", "bnn.max_pool2d"]


def test_one_direction_for_all_channels_is_spelled_out():
    pool = lambda x: quantized(op.nn.max_pool2d(x, (2, 2), layout="NHWC"), T[:, :1], np.int8(-1))  # noqa: E731
    (call,) = bindings(rewritten(fold_pool, module(pool, (SHAPE, "float32"))), "bnn.max_pool2d")
    assert call.args[1].value.numpy().tolist() == [-1] * 3


@pytest.mark.parametrize("ternary", [False, True])
def test_what_stands_between_pool_and_quantizer_is_inside_the_thresholds(ternary):
    gamma, beta = np.array([-1.5, 2, 0.25], np.float32), np.array([0.5, -1, 0], np.float32)

    def pool(x):
        y = op.add(op.multiply(op.nn.max_pool2d(x, (2, 2), layout="NHWC"), const(gamma)), const(beta))
        return binarized(y, ternary)

    after = rewritten(fold_pool, module(pool, (SHAPE, "float32")))
    assert operators(after) == ["bnn.quantize", "bnn.max_pool2d"]
    (call,) = bindings(after, "bnn.max_pool2d")
    assert call.args[1].value.numpy().tolist() == [-1, 1, 1]


STAYING = {
    "thresholds that vary over the map": lambda x: quantized(op.nn.max_pool2d(x, (1, 1), layout="NHWC"), np.zeros((1, 7, 6, 3), np.float32)),
    "a mean": lambda x: quantized(op.nn.avg_pool2d(x, (2, 2), layout="NHWC")),
    "something in between that turns over": lambda x: quantized(op.abs(op.nn.max_pool2d(x, (2, 2), layout="NHWC")), np.ones((1, 3), np.float32)),
    "a pool behind the quantizer": lambda x: bnn.max_pool2d(quantized(x), const(FLIP), (2, 2), (1, 1), (0, 0, 0, 0), (1, 1)),
    "a pool in front of nothing": lambda x: op.nn.max_pool2d(x, (2, 2), layout="NHWC"),
    "a pool of another layout": lambda x: quantized(op.nn.max_pool2d(x, (2, 2), layout="NCHW"), T[:, :1], np.int8(1)),
}


@pytest.mark.parametrize("name", STAYING)
def test_anything_else_stays(name):
    unchanged(fold_pool, module(STAYING[name], (SHAPE, "float32")))
