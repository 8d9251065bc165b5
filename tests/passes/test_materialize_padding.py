from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.passes.materialize_padding import materialize_padding
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, unchanged

X = ((2, 6, 5, 4), "float32")
W = np.random.default_rng(0).integers(-3, 4, (3, 3, 4, 6)).astype(np.float32)  # small integers: sums in any order are exact


def conv(weights=W, **attributes):
    return lambda x: op.nn.conv2d(x, const(weights), data_layout="NHWC", kernel_layout="HWIO", **attributes)


def test_the_padding_of_a_convolution_is_a_step_of_its_own():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 6, 5, 4), "float32")):
            with R.dataflow():
                y = R.nn.conv2d(x, R.const(W), padding=[1, 0, 2, 1], data_layout="NHWC", kernel_layout="HWIO")
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 6, 5, 4), "float32")):
            with R.dataflow():
                p = R.nn.pad(x, [0, 0, 1, 2, 0, 1, 0, 0])
                y = R.nn.conv2d(p, R.const(W), data_layout="NHWC", kernel_layout="HWIO")
                R.output(y)
            return y

    tvm.ir.assert_structural_equal(rewritten(materialize_padding, Before), Expected)


@pytest.mark.parametrize("attributes", [{"strides": (2, 1)}, {"dilation": (2, 1)}, {"padding": (2, 2, 0, 0), "strides": (2, 2)}], ids=str)
def test_strides_and_dilation_stay(attributes):
    attributes = {"padding": (1, 2, 1, 0), **attributes}
    after = rewritten(materialize_padding, module(conv(**attributes), X))
    assert operators(after) == ["nn.pad", "nn.conv2d"]
    assert not any(bindings(after, "nn.conv2d")[0].attrs.padding)


def test_groups_stay():
    after = rewritten(materialize_padding, module(conv(W[:, :, :2], padding=(1, 1, 1, 1), groups=2), X))
    assert bindings(after, "nn.conv2d")[0].attrs.groups == 2


@pytest.mark.parametrize("build", [conv(), lambda x: op.nn.max_pool2d(x, (3, 3), padding=(1, 1, 1, 1), layout="NHWC")], ids=["no padding", "a pool"])
def test_anything_else_stays(build):
    unchanged(materialize_padding, module(build, X))
