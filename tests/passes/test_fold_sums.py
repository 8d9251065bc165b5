"""Quantizers of sums of codes: integer thresholds where the source is a function of the integer sum, the same results, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.fold_sums import fold_sums
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, unchanged

f32 = np.float32
BETA = np.array([0.5, -1.25, 3, 0, 100, -0.1], f32)
DIRECTION = np.array([1, -1, 1, -1, 1, 1], np.int8)


class _Build:
    """Builds the operators a function of two real tensors is made of, naming each."""

    def __init__(self):
        self.builder = relax.BlockBuilder.current()

    def __call__(self, expr):
        return self.builder.emit(expr)


def int4(emit, x):
    """Return int4 codes of a real tensor."""
    return emit(op.astype(emit(op.clip(emit(op.round(x)), -8, 7)), "int8"))


SCALES = (f32(0.3), f32(0.3))


def program(chain, scales=SCALES, join=op.add):
    def build(x, y):
        emit = _Build()
        real = [emit(bnn.dequantize(int4(emit, v), const(s), const(f32(0)))) for v, s in zip((x, y), scales)]
        return chain(emit, emit(join(*real)))

    return module(build, ((3, 6), "float32"), ((3, 6), "float32"))


def saturated(emit, z):
    """Clip to int4, shift, and binarize in a direction of every channel's own."""
    z = emit(op.clip(z, -8 * float(f32(0.3)), 7 * float(f32(0.3))))
    return bnn.quantize(emit(op.subtract(z, const(BETA))), const(np.array([0.25], f32)), const(DIRECTION))


CHAINS = {
    "a saturating sum": program(saturated),
    "a difference": program(saturated, join=op.subtract),
    "three levels": program(lambda emit, z: bnn.quantize(z, const(np.array([-0.5, 0.7], f32)), const(np.int8(1)), -1, 1)),
    "its zero": program(lambda emit, z: bnn.quantize(z, const(np.array([0], f32)), const(np.int8(1)))),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_quantizer_of_a_sum_of_codes_has_integer_thresholds(name):
    after = rewritten(fold_sums, CHAINS[name])
    (quantize,) = bindings(after, "bnn.quantize")
    assert str(quantize.args[0].ty.dtype) == str(quantize.args[1].ty.dtype) == "int32"
    assert "bnn.dequantize" not in operators(after)


def test_the_threshold_is_the_smallest_sum_that_reaches_the_level():
    after = rewritten(fold_sums, program(lambda emit, z: bnn.quantize(z, const(np.array([0.8], f32)), const(np.int8(1)))))
    (quantize,) = bindings(after, "bnn.quantize")
    assert quantize.args[1].value.numpy().reshape(-1).tolist() == [3]  # 2 * 0.3 < 0.8 <= 3 * 0.3


def test_codes_of_different_scales_keep_their_float_sum():
    unchanged(fold_sums, program(saturated, scales=(f32(0.3), f32(0.2))))


def test_a_chain_that_turns_over_keeps_its_float_sum():
    before = program(lambda emit, z: bnn.quantize(emit(op.abs(z)), const(np.array([1], f32)), const(np.int8(1))))
    assert "bnn.dequantize" in operators(rewritten(fold_sums, before))


def test_twice_the_same_code_is_no_sum_of_two():
    def build(x):
        emit = _Build()
        real = emit(bnn.dequantize(int4(emit, x), const(f32(1)), const(f32(0))))
        return bnn.quantize(emit(op.add(real, real)), const(np.array([1], f32)), const(np.int8(1)))

    unchanged(fold_sums, module(build, ((3, 6), "float32")))
