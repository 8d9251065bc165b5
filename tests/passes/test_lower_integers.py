from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.errors import InternalError
from bnncc.ops import bnn
from bnncc.passes.context import Options, PassContext, TensorView
from bnncc.passes.lower_integers import lower_integers
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, unchanged

CODES = ((2, 6, 5, 4), "int8")
rng = np.random.default_rng(0)
W = rng.integers(-7, 8, (6, 3, 3, 4)).astype(np.int8)


def test_padding_and_widening_are_steps_of_their_own():
    @I.ir_module
    class Before:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 4), "int8")):
            with R.dataflow():
                n = R.bnn.conv2d(c, R.const(W, "int8"), padding=[1, 0, 2, 1], strides=[2, 1], pad_code=-3)
                R.output(n)
            return n

    @I.ir_module
    class Expected:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 4), "int8")):
            with R.dataflow():
                p = R.bnn.pad(c, [1, 0, 2, 1], code=-3)
                x = R.astype(p, "int16")
                n = R.bnn.conv2d(x, R.const(W, "int8"), strides=[2, 1])
                R.output(n)
            return n

    tvm.ir.assert_structural_equal(rewritten(lower_integers, Before), Expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_dense_layer_is_widened(dtype):
    weights = rng.integers(-128, 128, (5, 7)).astype(np.int8)
    codes = rng.integers(*((-128, 128) if dtype == "int8" else (0, 256)), (3, 7)).astype(dtype)
    mod = module(lambda c: bnn.dense(c, const(weights)), ((3, 7), dtype))
    after = rewritten(lower_integers, mod, None, codes)
    assert operators(after) == ["astype", "bnn.dense"]


def test_without_pairs_of_products_codes_are_read_as_the_bytes_they_are():
    weights = rng.integers(-128, 128, (5, 3, 3, 4)).astype(np.int8)
    mod = module(lambda c: bnn.conv2d(c, const(weights), padding=(1, 1, 1, 1)), CODES)
    after = rewritten(lower_integers, mod, PassContext(Options(widens_codes=False)))
    assert operators(after) == ["bnn.pad", "bnn.conv2d"]


def test_verify_knows_what_widened_codes_are():
    ctx = PassContext(tensors={"x0": TensorView("codes", scale=0.5)})
    after = lower_integers(module(lambda c: bnn.dense(c, const(np.ones((5, 7), np.int8))), ((3, 7), "int8")), ctx)
    widened = bindings(after, "bnn.dense")[0].args[0]
    assert ctx.tensors[widened.name] == TensorView("codes", scale=0.5)


def test_a_depthwise_layer_is_a_float_convolution_of_whole_numbers():
    weights = rng.integers(-7, 8, (4, 3, 3, 1)).astype(np.int8)
    after = rewritten(lower_integers, module(lambda c: bnn.conv2d(c, const(weights), padding=(1, 1, 1, 1), groups=4), CODES))
    assert operators(after) == ["bnn.pad", "astype", "nn.conv2d", "astype"]


def test_a_depthwise_layer_whose_sums_float32_does_not_hold_stays_in_integers():
    weights = np.full((2, 30, 30, 1), 127, np.int8)
    build = lambda x: bnn.conv2d(tvm.relax.op.astype(x, "uint8"), const(weights), groups=2)  # noqa: E731
    after = rewritten(lower_integers, module(build, ((1, 30, 30, 2), "float32")), None, np.full((1, 30, 30, 2), 255, np.float32))
    assert operators(after)[-1] == "bnn.conv2d"


@pytest.mark.parametrize("dtype, flip", [("int8", [1, 1, 1, 1]), ("uint8", [1, 1, 1, 1]), ("int8", [1, -1, -1, 1]), ("uint8", [-1, -1, 1, -1])])
def test_a_pool_of_codes_is_a_plain_pool(dtype, flip):
    limits = np.iinfo(dtype)
    codes = rng.integers(limits.min, limits.max + 1, CODES[0]).astype(dtype)
    build = lambda c: bnn.max_pool2d(c, const(np.array(flip, np.int8)), (3, 2), (2, 1), (1, 0, 1, 1))  # noqa: E731
    after = rewritten(lower_integers, module(build, (CODES[0], dtype)), None, codes)
    assert len(bindings(after, "nn.max_pool2d")) == 1 and not bindings(after, "bnn.max_pool2d")


@pytest.mark.parametrize("length, fits", [(65_000, True), (67_000, False)])
def test_sums_that_32_bits_do_not_hold_are_refused(length, fits):
    mod = module(lambda x: bnn.dense(tvm.relax.op.astype(x, "uint8"), const(np.full((1, length), -128, np.int8))), ((1, length), "float32"))
    if fits:
        assert operators(lower_integers(mod, PassContext()))[-1] == "bnn.dense"
    else:
        with pytest.raises(InternalError, match="32 bits"):
            lower_integers(mod, PassContext())


def test_anything_else_stays():
    unchanged(lower_integers, module(lambda c: bnn.dequantize(c, const(np.float32(1)), const(np.float32(0))), CODES))
