from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op
from tvm.script import ir as I
from tvm.script import relax as R

from bnncc.ops import bnn
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.rewrite import Graph, const
from bnncc.passes.sink_dequantize import sink_dequantize

from .programs import bindings, module, operators, rewritten, unchanged

CODES = ((2, 6, 5, 3), "int8")


def real(code, scale=0.5, offset=0.0):
    return bnn.dequantize(code, const(np.float32(scale)), const(np.float32(offset)))


def pool(x, **attributes):
    return op.nn.max_pool2d(x, layout="NHWC", **attributes)


MOVES = {
    "reshape": lambda x: op.reshape(x, (2, 30, 3)),
    "permute_dims": lambda x: op.permute_dims(x, [0, 2, 1, 3]),
    "strided_slice": lambda x: op.strided_slice(x, [1, 3], [0, 1], [5, 3], [2, 1]),
    "expand_dims": lambda x: op.expand_dims(x, 1),
    "squeeze": lambda x: op.squeeze(op.strided_slice(x, [1], [0], [1]), [1]),
    "take": lambda x: op.take(x, const(np.array([2, 0, 1, 2], np.int32)), 3),
    "broadcast_to": lambda x: op.broadcast_to(x, (4, 2, 6, 5, 3)),
}


def test_movement_acts_on_codes():
    @I.ir_module
    class Before:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 3), "int8")):
            with R.dataflow():
                x = R.bnn.dequantize(c, R.const(0.5, "float32"), R.const(0.25, "float32"))
                y = R.permute_dims(x, [0, 2, 1, 3])
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(c: R.Tensor((2, 6, 5, 3), "int8")):
            with R.dataflow():
                m = R.permute_dims(c, [0, 2, 1, 3])
                y = R.bnn.dequantize(m, R.const(0.5, "float32"), R.const(0.25, "float32"))
                R.output(y)
            return y

    tvm.ir.assert_structural_equal(rewritten(sink_dequantize, Before), Expected)


@pytest.mark.parametrize("name", MOVES)
def test_every_movement_comes_before_the_real_values(name):
    after = rewritten(sink_dequantize, module(lambda c: MOVES[name](real(c, 0.5, 0.25)), CODES))
    assert operators(after)[-1] == "bnn.dequantize" and operators(after).count("bnn.dequantize") == 1 and name in operators(after)


def test_a_row_of_movements_is_passed_as_a_whole():
    build = lambda c: op.permute_dims(op.take(MOVES["strided_slice"](real(c)), const(np.array([1, 0], np.int32)), 3), [0, 3, 1, 2])  # noqa: E731
    assert operators(rewritten(sink_dequantize, module(build, CODES))) == ["strided_slice", "take", "permute_dims", "bnn.dequantize"]


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_a_concatenation_of_equally_scaled_codes_is_one_of_codes(axis):
    after = rewritten(sink_dequantize, module(lambda a, b: op.concat([real(a), real(b)], axis), CODES, CODES))
    assert operators(after) == ["concat", "bnn.dequantize"]


@pytest.mark.parametrize("scale, offset", [(0.25, 0.0), (0.5, 1.0), (-0.5, 0.0)])
def test_a_concatenation_of_other_scales_stays(scale, offset):
    unchanged(sink_dequantize, module(lambda a, b: op.concat([real(a), real(b, scale, offset)], 3), CODES, CODES))


def test_a_concatenation_with_real_numbers_stays():
    unchanged(sink_dequantize, module(lambda a, b: op.concat([real(a), b], 3), CODES, (CODES[0], "float32")))


POOLS = [
    {"pool_size": (2, 2), "strides": (2, 2)},
    {"pool_size": (3, 3), "strides": (2, 1), "padding": (1, 0, 1, 1)},
    {"pool_size": (2, 3), "strides": (2, 2), "ceil_mode": True},
    {"pool_size": (2, 2), "dilation": (2, 1)},
    {"pool_size": (3, 3), "strides": (3, 3), "padding": (1, 1, 1, 1), "ceil_mode": True},
]


@pytest.mark.parametrize("scale, offset", [(0.5, 0.0), (-0.5, 0.25), (2.0, -7.0)])
@pytest.mark.parametrize("attributes", POOLS, ids=str)
def test_a_maximum_is_one_of_codes_or_their_minimum_where_the_scale_is_negative(attributes, scale, offset):
    after = rewritten(sink_dequantize, module(lambda c: pool(real(c, scale, offset), **attributes), CODES))
    assert operators(after) == ["bnn.max_pool2d", "bnn.dequantize"]
    assert set(bindings(after, "bnn.max_pool2d")[0].args[1].value.numpy()) == {np.sign(scale)}


@pytest.mark.parametrize("scale, offset, value, code", [(1, 0, 0, 0), (1, 0, -1, -1), (0.5, 0.5, 0, -1), (0.5, 0.5, 1, 1), (-2, 0, 2, -1)])
def test_a_constant_pad_writes_the_code_of_its_value(scale, offset, value, code):
    build = lambda c: op.nn.pad(real(c, scale, offset), [0, 0, 1, 2, 0, 3, 0, 0], "constant", value)  # noqa: E731
    after = rewritten(sink_dequantize, module(build, CODES))
    (call,) = bindings(after, "bnn.pad")
    assert (list(call.attrs.padding), call.attrs.mode, call.attrs.code) == ([1, 0, 2, 3], "constant", code)


@pytest.mark.parametrize("mode, expected", [("replicate", "edge"), ("reflect", "reflect")])
def test_pads_that_repeat_pixels(mode, expected):
    after = rewritten(sink_dequantize, module(lambda c: op.nn.pad(real(c), [0, 0, 1, 2, 2, 1, 0, 0], mode), CODES))
    assert bindings(after, "bnn.pad")[0].attrs.mode == expected


STAYING = {
    "a pad of no code": lambda c: op.nn.pad(real(c), [0, 0, 1, 1, 1, 1, 0, 0], "constant", 0.25),
    "a pad of channels": lambda c: op.nn.pad(real(c), [0, 0, 0, 0, 0, 0, 0, 1], "constant", 0.5),
    "a circular pad": lambda c: op.nn.pad(real(c), [0, 0, 1, 1, 1, 1, 0, 0], "circular"),
    "a pad of a constant": lambda c: op.nn.pad(real(c, 0.0), [0, 0, 1, 1, 1, 1, 0, 0], "constant", 0.0),
    "a scale for each channel": lambda c: op.permute_dims(real(c, [1, 2, 3]), [0, 2, 1, 3]),
    "an offset for each channel": lambda c: op.permute_dims(real(c, 1, [1, 2, 3]), [0, 2, 1, 3]),
    "a mean": lambda c: op.nn.avg_pool2d(real(c), (2, 2), layout="NHWC"),
    "arithmetic": lambda c: op.negative(real(c)),
}


@pytest.mark.parametrize("name", STAYING)
def test_what_acts_on_values_stays(name):
    unchanged(sink_dequantize, module(STAYING[name], CODES))


def test_moved_codes_are_views_of_the_tensor_they_stand_for():
    mod = module(lambda c: MOVES["permute_dims"](real(c, 0.5, 0.25)), CODES)
    ctx = PassContext(tensors={Graph(mod).outputs[0].name: TensorView("onnx", (0, 3, 1, 2))})
    (code,) = [b.var.name for b in Graph(sink_dequantize(mod, ctx)).bindings if b.var.name.endswith("_code")]
    assert ctx.tensors[code] == TensorView("onnx", (0, 3, 1, 2), 0.5, 0.25)


def test_values_that_are_read_elsewhere_stay_beside_the_moved_codes():
    def build(c):
        x = relax.BlockBuilder.current().emit(real(c))
        return op.permute_dims(x, [0, 2, 1, 3]), op.negative(x)

    assert operators(rewritten(sink_dequantize, module(build, CODES))).count("bnn.dequantize") == 2


def several_levels(x):
    """Return codes 0 to 7 of a real tensor."""
    return bnn.quantize(x, const(np.arange(7, dtype=np.float32)), const(np.int8(1)), 0, 1)


def test_a_nearest_resize_moves_codes():
    build = lambda x: op.image.resize2d(  # noqa: E731
        bnn.dequantize(several_levels(x), const(np.float32(0.5)), const(np.float32(0))),
        (8, 10),
        layout="NHWC",
        method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric",
        rounding_method="floor",
    )
    after = rewritten(sink_dequantize, module(build, ((1, 4, 5, 3), "float32")))
    assert operators(after) == ["bnn.quantize", "image.resize2d", "bnn.dequantize"]


def test_a_linear_resize_stays_behind_dequantize():
    build = lambda x: op.image.resize2d(  # noqa: E731
        bnn.dequantize(several_levels(x), const(np.float32(0.5)), const(np.float32(0))), (8, 10), layout="NHWC", method="linear"
    )
    unchanged(sink_dequantize, module(build, ((1, 4, 5, 3), "float32")))


@pytest.mark.parametrize("value, code", [(1.5, 3), (-2.0, -4), (63.5, 127)])
def test_a_pad_of_several_levels_takes_any_code(value, code):
    build = lambda x: op.nn.pad(bnn.dequantize(several_levels(x), const(np.float32(0.5)), const(np.float32(0))), [0, 0, 1, 1, 2, 0, 0, 0], "constant", value)  # noqa: E731
    after = rewritten(sink_dequantize, module(build, ((1, 4, 5, 3), "float32")))
    assert bindings(after, "bnn.pad")[0].attrs.code == code


@pytest.mark.parametrize("value", [0.25, 64.0])
def test_a_pad_that_is_no_code_of_several_levels_stays(value):
    build = lambda x: op.nn.pad(bnn.dequantize(several_levels(x), const(np.float32(0.5)), const(np.float32(0))), [0, 0, 1, 1, 2, 0, 0, 0], "constant", value)  # noqa: E731
    unchanged(sink_dequantize, module(build, ((1, 4, 5, 3), "float32")))
