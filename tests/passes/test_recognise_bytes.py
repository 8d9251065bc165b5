"""RecogniseBytes: bytes are codes where what they stand for lies on a line, thresholds where it takes few values, a table where it is rounded."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.passes.code_range import CodeRange, code_range
from bnncc.passes.context import PassContext
from bnncc.passes.recognise_bytes import byte_line, recognise_bytes
from bnncc.passes.rewrite import Graph, const, constant
from tests.passes.programs import bindings, module, operators, results

F = np.float32
IMAGE = ((1, 4, 4, 3), "uint8")
FILTER = const(np.ones((3, 3, 3, 2), F))


def real(x, zero=0.0, scale=1.0):
    """Return what the bytes of `x` stand for, in the source's arithmetic."""
    return op.multiply(op.subtract(op.astype(x, "float32"), const(np.asarray(zero, F))), const(np.asarray(scale, F)))


def convolved(x, padding=0):
    """Return a layer that reads `x`."""
    return op.nn.conv2d(x, FILTER, padding=padding, data_layout="NHWC", kernel_layout="HWIO")


def recognised(build):
    """Return the rewritten module of a function of an image of bytes, and the image that both were compared on."""
    before = module(build, IMAGE)
    after = recognise_bytes(before, PassContext())
    image = np.random.default_rng(0).integers(0, 256, IMAGE[0]).astype(np.uint8)
    for was, now in zip(results(before, [image]), results(after, [image]), strict=True):
        np.testing.assert_allclose(now, was, rtol=2e-6, atol=1e-4)
    return after


def scales(mod):
    (call,) = bindings(mod, "bnn.dequantize")
    return constant(call.args[1]), constant(call.args[2])


def test_bytes_on_a_line_are_codes():
    after = recognised(lambda x: convolved(real(x, 128, 1 / 64)))
    assert operators(after) == ["bnn.dequantize", "nn.conv2d"]
    assert scales(after) == (F(1 / 64), F(-2))


def test_channels_of_lines_of_their_own_keep_them():
    after = recognised(lambda x: convolved(real(x, [1.25, 2.5, 3], [1, 2, 4])))
    scale, offset = scales(after)
    np.testing.assert_array_equal(scale, np.array([1, 2, 4], F))
    np.testing.assert_array_equal(offset, np.array([-1.25, -5, -12], F))


def test_codes_are_doubled_where_padding_lies_half_way_between_bytes():
    after = recognised(lambda x: convolved(real(x, 127.5, 2 / 255), padding=1))
    assert operators(after) == ["astype", "multiply", "subtract", "bnn.dequantize", "nn.conv2d"]
    (call,) = bindings(after, "bnn.dequantize")
    assert code_range(call.args[0], Graph(after).value) == CodeRange(-255, 255, 2)


def test_a_zero_for_each_channel_is_taken_off_where_padding_needs_it():
    after = recognised(lambda x: convolved(real(x, [124, 117, 104]), padding=1))
    (call,) = bindings(after, "bnn.dequantize")
    assert scales(after) == (F(1), F(0))
    assert code_range(call.args[0], Graph(after).value) == CodeRange(-124, 151, 1)


def test_without_padding_bytes_stay_bytes():
    assert "multiply" not in operators(recognised(lambda x: convolved(real(x, 127.5, 2 / 255))))


def test_a_sign_of_bytes_is_a_threshold_between_two_of_them():
    after = recognised(lambda x: op.sign(op.add(real(x, 99.5), const(F(0)))))
    (call,) = bindings(after, "bnn.quantize")
    assert constant(call.args[1]).item() == 100 and "sign" not in operators(after)


def test_a_falling_threshold_keeps_its_tie():
    after = recognised(lambda x: op.where(op.less_equal(real(x), const(F(7))), const(F(1)), const(F(-1))))
    (call,) = bindings(after, "bnn.quantize")
    assert (constant(call.args[1]).item(), constant(call.args[2]).item()) == (7, -1)


def test_rounded_bytes_are_a_table_of_codes():
    after = recognised(lambda x: convolved(op.multiply(op.clip(op.round(real(x, 127.5, 256 / 255)), -128, 127), const(F(1 / 128)))))
    assert operators(after) == ["astype", "take", "bnn.dequantize", "nn.conv2d"]
    (call,) = bindings(after, "take")
    assert constant(call.args[0])[[0, 127, 128, 254, 255]].tolist() == [-128, -1, 1, 127, 127]


def test_a_curve_stays_as_it_is():
    after = recognised(lambda x: convolved(op.exp(real(x, 128, 1 / 64))))
    assert "bnn.dequantize" not in operators(after)


@pytest.mark.parametrize("bend", [0.0, 1e-4])
def test_a_line_is_one_only_but_for_rounding(bend):
    values = (np.arange(256, dtype=F) - F(123.675)) * F(1 / 58.395) + bend * (np.arange(256) > 128)
    assert (byte_line(values.astype(F)) is None) == bool(bend)
