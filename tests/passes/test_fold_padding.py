from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.fold_padding import fold_padding
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, signs, unchanged

CODES = ((2, 6, 5, 4), "int8")
W = signs(np.random.default_rng(0), 8, 3, 3, 4)


def test_a_pad_becomes_the_convolution_s_own():
    @I.ir_module
    class Before:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 4), "int8")):
            with R.dataflow():
                p = R.bnn.pad(c, [1, 0, 2, 1], "constant", -1)
                n = R.bnn.conv2d(p, R.const(W, "int8"), strides=[2, 1])
                R.output(n)
            return n

    @I.ir_module
    class Expected:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 4), "int8")):
            with R.dataflow():
                n = R.bnn.conv2d(c, R.const(W, "int8"), strides=[2, 1], padding=[1, 0, 2, 1], pad_code=-1)
                R.output(n)
            return n

    tvm.ir.assert_structural_equal(rewritten(fold_padding, Before), Expected)


@pytest.mark.parametrize("code", [-1, 0, 1])
def test_pads_of_one_code_add_up(code):
    build = lambda c: bnn.conv2d(bnn.pad(c, (1, 0, 2, 1), "constant", code), const(W), padding=(1, 1, 0, 0), pad_code=code)  # noqa: E731
    after = rewritten(fold_padding, module(build, CODES))
    assert list(bindings(after, "bnn.conv2d")[0].attrs.padding) == [2, 1, 2, 1]


STAYING = {
    "pads of two codes": lambda c: bnn.conv2d(bnn.pad(c, (1, 1, 1, 1), "constant", -1), const(W), padding=(1, 1, 1, 1), pad_code=1),
    "pads that repeat pixels": lambda c: bnn.conv2d(bnn.pad(c, (1, 1, 1, 1), "edge"), const(W)),
    "a pad in front of a pool": lambda c: bnn.max_pool2d(
        bnn.pad(c, (1, 1, 1, 1), "constant", -1), const(np.ones(4, np.int8)), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)
    ),
    "no pad": lambda c: bnn.conv2d(c, const(W)),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYING)
def test_anything_else_stays(name):
    unchanged(fold_padding, module(STAYING[name], CODES))


def test_a_pad_that_another_reads_stays_beside():
    def build(c):
        padded = relax.BlockBuilder.current().emit(bnn.pad(c, (1, 1, 1, 1), "constant", 1))
        return bnn.conv2d(padded, const(W)), relax.op.permute_dims(padded, [0, 2, 1, 3])

    assert sorted(operators(rewritten(fold_padding, module(build, CODES)))) == ["bnn.conv2d", "bnn.pad", "permute_dims"]
