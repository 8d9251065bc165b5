from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.lower_dequantize import lower_dequantize
from bnncc.passes.rewrite import const

from .programs import module, operators, rewritten, unchanged

CODES = ((2, 5), "int8")


def test_dequantize_is_a_cast_and_a_product():
    @I.ir_module
    class Before:
        @R.function
        def main(c: R.Tensor((2, 5), "int8")):
            with R.dataflow():
                y = R.bnn.dequantize(c, R.const(0.5, "float32"), R.const(0.0, "float32"))
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(c: R.Tensor((2, 5), "int8")):
            with R.dataflow():
                f = R.astype(c, "float32")
                y = R.multiply(f, R.const(0.5, "float32"))
                R.output(y)
            return y

    tvm.ir.assert_structural_equal(rewritten(lower_dequantize, Before), Expected)


CASES = {
    (1, 0): ["astype"],
    (0.3, 0): ["astype", "multiply"],
    (1, 0.7): ["astype", "add"],
    (0.3, 0.7): ["astype", "multiply", "add"],
    (0, 0): ["astype", "multiply"],
    (-1, 0): ["astype", "multiply"],
    ((1, 1, 1, 1, 2), 0): ["astype", "multiply"],
    ((1, 1, 1, 1, 1), (0, 0, 0, 0, 0)): ["astype"],
}


@pytest.mark.parametrize("scale, offset", CASES)
def test_steps_that_do_nothing_are_left_out(scale, offset):
    build = lambda c: bnn.dequantize(c, const(np.array(scale, np.float32)), const(np.array(offset, np.float32)))  # noqa: E731
    assert operators(rewritten(lower_dequantize, module(build, CODES))) == CASES[scale, offset]


def test_other_casts_stay():
    unchanged(lower_dequantize, module(lambda c: op.astype(c, "float32"), CODES))
