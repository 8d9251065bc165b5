from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from bnncc.ops import bnn
from bnncc.passes.context import LayerRow, PassContext
from bnncc.passes.lower_planes import lower_planes
from bnncc.passes.rewrite import Graph, const

from .programs import bindings, module, operators, rewritten, same, unchanged

rng = np.random.default_rng(0)
IMAGE = ((2, 6, 5, 32), "float32")
SIGNS = rng.choice(np.array([-1, 1], np.int8), (16, 3, 3, 32))
TERNARY = rng.integers(-1, 2, (16, 3, 3, 32)).astype(np.int8)


def codes(x, lo: int, step: int, levels: int):
    thresholds = np.linspace(-1, 1, levels - 1, dtype=np.float32)
    return bnn.quantize(x, const(thresholds), const(np.int8(1)), lo, step)


def layer(weights, lo, step, levels, **attributes):
    return module(lambda x: bnn.conv2d(relax.BlockBuilder().normalize(codes(x, lo, step, levels)), const(weights), **attributes), IMAGE)


@pytest.mark.parametrize("lo, step, levels", [(0, 1, 2), (0, 1, 4), (0, 1, 16), (-3, 2, 4), (-2, 1, 4)])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 0, 2, 1)])
def test_one_bit_weights_on_codes_become_planes(lo, step, levels, padding):
    after = rewritten(lower_planes, layer(SIGNS, lo, step, levels, padding=padding, strides=(2, 1)))
    assert not bindings(after, "bnn.conv2d")
    (made,) = bindings(after, "bnn.plane_conv2d")
    assert len(made.attrs.input_scales) == (levels - 1).bit_length()
    # -3, -1, 1, 3 do not say 0: the border takes the padded taps out again
    assert len(made.args) == (6 if any(padding) and step == 2 else 3)


@pytest.mark.parametrize("groups", [1, 2])
def test_ternary_weights_on_signs_take_two_planes(groups):
    after = rewritten(lower_planes, layer(np.tile(TERNARY, (2, 1, 1, 1))[..., : 32 // groups], -1, 2, 2, padding=(1, 1, 1, 1), groups=groups))
    (made,) = bindings(after, "bnn.plane_conv2d")
    assert (list(made.attrs.input_scales), list(made.attrs.weight_scales)) == ([2], [1, 1])


def test_a_dense_layer_becomes_planes():
    weights = rng.integers(-1, 2, (20, 70)).astype(np.int8)
    mod = module(lambda x: bnn.dense(relax.BlockBuilder().normalize(codes(x, 0, 1, 4)), const(weights)), ((3, 70), "float32"))
    assert operators(rewritten(lower_planes, mod)) == ["bnn.quantize", "bnn.pack", "bnn.plane_dense"]


def test_codes_that_two_layers_read_are_packed_once():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(*IMAGE))
    with builder.function("main", [x]):
        with builder.dataflow():
            c = builder.emit(codes(x, 0, 1, 4))
            outputs = [builder.emit_output(bnn.conv2d(c, const(SIGNS))), builder.emit_output(bnn.conv2d(c, const(TERNARY), padding=(1, 1, 1, 1)))]
        builder.emit_func_output(tuple(outputs))
    after = rewritten(lower_planes, builder.get())
    assert len(bindings(after, "bnn.pack")) == 1 and len(bindings(after, "bnn.plane_conv2d")) == 2


@pytest.mark.parametrize(
    "weights, levels",
    [(rng.integers(-7, 8, (16, 3, 3, 32)).astype(np.int8), 16), (SIGNS[:3], 4), (rng.choice(np.array([-1, 1], np.int8), (16, 3, 3, 32)), 200)],
)
def test_layers_that_planes_would_slow_down_stay(weights, levels):
    unchanged(lower_planes, layer(weights, 0 if levels < 200 else -100, 1, levels))


def test_the_report_says_what_was_chosen():
    for weights, bits in ((SIGNS, True), (rng.integers(-7, 8, SIGNS.shape).astype(np.int8), False)):
        mod = layer(weights, 0, 1, 4)
        row = LayerRow("conv", "Conv", "y", False, "2-bit input, 1-bit weights: integer arithmetic", 1, 10, (), (), "", True)
        ctx = PassContext(layers=[row], sums={Graph(mod).bindings[-1].var.name: 0})
        same(mod, lower_planes(mod, ctx))
        found = ctx.layers[0]
        assert (found.bits, found.integer) == (bits, not bits)
        assert found.reason.startswith("2-bit input, 1-bit weights: ") and ("xor + popcount" in found.reason) == bits
