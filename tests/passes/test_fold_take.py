from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.fold_take import fold_take
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, unchanged

SHAPE = (2, 5, 3)
TWICE = np.array([0, 1, 2, 0, 1, 2], np.int32)
T = np.array([[0.0, -0.5, 0.25, 1.0, -1.0, 0.5]], np.float32)
FLIP = np.array([1, -1, 1, 1, 1, -1], np.int8)
ONE = np.int8(1)


def test_each_repetition_is_quantized_from_the_channels_themselves():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 5, 3), "float32")):
            with R.dataflow():
                t = R.take(x, R.const(TWICE, "int32"), axis=2)
                q = R.bnn.quantize(t, R.const(T), R.const(ONE, "int8"))
                R.output(q)
            return q

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 5, 3), "float32")):
            with R.dataflow():
                a = R.bnn.quantize(x, R.const(T[:, :3]), R.const(ONE, "int8"))
                b = R.bnn.quantize(x, R.const(T[:, 3:]), R.const(ONE, "int8"))
                q = R.concat((a, b), axis=2)
                R.output(q)
            return q

    tvm.ir.assert_structural_equal(rewritten(fold_take, Before), Expected)


def taken(index, thresholds=T, flip=FLIP, axis=2):
    return lambda x: bnn.quantize(op.take(x, const(np.asarray(index, np.int32)), axis), const(thresholds), const(flip))


@pytest.mark.parametrize("repetitions", [2, 3, 8])
def test_directions_and_thresholds_of_every_repetition(repetitions):
    rng = np.random.default_rng(repetitions)
    thresholds = rng.integers(-2, 3, (1, 3 * repetitions)).astype(np.float32)
    flip = rng.choice(np.array([-1, 1], np.int8), 3 * repetitions)
    after = rewritten(fold_take, module(taken(np.tile([0, 1, 2], repetitions), thresholds, flip), (SHAPE, "float32")))
    assert operators(after) == ["bnn.quantize"] * repetitions + ["concat"]


def test_one_threshold_for_all_repetitions():
    after = rewritten(fold_take, module(taken(TWICE, T[:, :1], np.int8(-1)), (SHAPE, "float32")))
    assert "take" not in operators(after)


SELECTIONS = {
    "another order": ([0, 2, 1, 0, 1, 2], 2),
    "channels next to themselves": ([0, 0, 1, 1, 2, 2], 2),
    "a part of the channels": ([0, 1, 2, 0, 1], 2),
    "a channel that nothing selects": ([2, 0, 2, 0], 2),
    "a permutation": ([2, 0, 1], 1),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_any_selection_of_channels_becomes_one_of_their_codes(name):
    index, quantizers = SELECTIONS[name]
    after = rewritten(fold_take, module(taken(index, T[:, : len(index)], FLIP[: len(index)]), (SHAPE, "float32")))
    assert operators(after) == ["bnn.quantize"] * quantizers + ["concat"] * (quantizers > 1) + ["take"]
    assert all(str(call.args[0].ty.dtype) == "int8" for call in bindings(after, "take"))


def test_channels_in_their_own_order_need_no_selection():
    after = rewritten(fold_take, module(taken([0, 1, 2], T[:, :3], FLIP[:3]), (SHAPE, "float32")))
    assert operators(after) == ["bnn.quantize"]


STAYING = {
    "one channel many times, the others never": taken([1, 1, 1, 1, 1], T[:, :5], FLIP[:5]),
    "rows": taken([0, 1, 2, 3, 4] * 2, T[:, :3], FLIP[:3], axis=1),
    "one channel": taken(1, T[:, :1], FLIP[:1]),
    "no take": lambda x: bnn.quantize(x, const(T[:, :3]), const(FLIP[:3])),
}


@pytest.mark.parametrize("name", STAYING)
def test_anything_else_stays(name):
    unchanged(fold_take, module(STAYING[name], (SHAPE, "float32")))
