from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.passes.context import LayerRow, PassContext
from bnncc.passes.pack_signs import pack_signs
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, signs, unchanged

rng = np.random.default_rng(0)
IMAGE = ((1, 6, 5, 4), "float32")
W = signs(rng, 3, 3, 4, 6).astype(np.float32)  # HWIO


def layer(weights, **attributes):
    return module(lambda x: op.nn.conv2d(x, const(weights.astype(np.float32)), data_layout="NHWC", kernel_layout="HWIO", **attributes), IMAGE)


def whole(shape):
    return rng.integers(-9, 10, shape).astype(np.float32)


@pytest.mark.parametrize("attributes", [{}, {"strides": (2, 1), "dilation": (1, 2)}, {"groups": 2}], ids=str)
def test_a_convolution_by_signs_keeps_bits(attributes):
    weights = W[:, :, : 4 // attributes.get("groups", 1)]
    after = rewritten(pack_signs, layer(weights, **attributes), None, whole(IMAGE[0]))
    assert operators(after) == ["bnn.sign_conv2d"]


def test_the_scale_of_each_channel_multiplies_the_sums():
    after = rewritten(pack_signs, layer(W * np.float32([0.5, 2, 1, 4, 0, 0.25])), None, whole(IMAGE[0]))
    assert operators(after) == ["bnn.sign_conv2d", "multiply"]
    one = rewritten(pack_signs, layer(W * 0.5), None, whole(IMAGE[0]))
    assert bindings(one, "multiply")[0].args[1].value.numpy().shape == ()


def test_a_dense_layer_by_signs_keeps_bits():
    mod = module(lambda x: op.matmul(x, const(signs(rng, 70, 5).astype(np.float32))), ((3, 70), "float32"))
    assert operators(rewritten(pack_signs, mod, None, whole((3, 70)))) == ["bnn.sign_dense"]


@pytest.mark.parametrize(
    "mod",
    [
        layer(W * (1 + 1e-5 * rng.random(W.shape))),  # real inputs do not average this out
        layer(W * (rng.random(W.shape) < 0.5)),
        layer(np.full_like(W, 0.25)),  # a mean of a window
        layer(W[:, :, :1, :4], groups=4),  # depthwise
    ],
)
def test_other_layers_stay(mod):
    unchanged(pack_signs, mod)


def test_the_report_says_that_weights_take_a_bit():
    mod = layer(W)
    row = LayerRow("conv", "Conv", "y", False, "weights are two-valued, but the input is real-valued", 1, 4 * W.size, (), ())
    ctx = PassContext(layers=[row], sums={mod["main"].body.blocks[0].bindings[0].var.name: 0})
    pack_signs(mod, ctx)
    assert ctx.layers[0].reason.endswith(": float sums, weights of 1 bit") and ctx.layers[0].weight_bytes == W.size // 8
    assert not ctx.layers[0].bits
