from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tvm import relax

from bnncc.ops import bnn
from bnncc.passes.context import LayerRow, Options, PassContext
from bnncc.passes.pack_code_signs import pack_code_signs
from bnncc.passes.plane_costs import SUMS, SumCosts
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, unchanged

rng = np.random.default_rng(0)
IMAGE = ((2, 6, 5, 32), "float32")
SIGNS = rng.choice(np.array([-1, 1], np.int8), (16, 3, 3, 32))
ALWAYS = SumCosts(0, 1, 1, 1)


def context(sums=ALWAYS):
    return PassContext(replace(Options(), sums=sums))


def codes(x, lo: int, step: int, levels: int):
    thresholds = np.linspace(-1, 1, levels - 1, dtype=np.float32)
    return bnn.quantize(x, const(thresholds), const(np.int8(1)), lo, step)


def layer(weights, lo, step, levels, **attributes):
    return module(lambda x: bnn.conv2d(relax.BlockBuilder().normalize(codes(x, lo, step, levels)), const(weights), **attributes), IMAGE)


@pytest.mark.parametrize(
    "lo, step, levels, padding, expected",
    [
        (0, 1, 4, (0, 0, 0, 0), (0, 3, 1)),
        (-3, 2, 4, (0, 0, 0, 0), (-3, 3, 2)),
        (-3, 2, 4, (1, 0, 2, 1), (-3, 3, 1)),  # a padded 0 lies between them
        (0, 3, 4, (1, 1, 1, 1), (0, 9, 1)),
        (-8, 1, 16, (1, 1, 1, 1), (-8, 7, 1)),
    ],
)
@pytest.mark.parametrize("attributes", [{"strides": (2, 1), "dilation": (1, 2)}, {"groups": 2}], ids=str)
def test_a_convolution_by_signs_keeps_bits_and_knows_its_codes(lo, step, levels, padding, expected, attributes):
    weights = SIGNS[..., : 32 // attributes.get("groups", 1)]
    after = rewritten(pack_code_signs, layer(weights, lo, step, levels, padding=padding, **attributes), context())
    assert operators(after) == ["bnn.quantize", *(["bnn.pad"] if any(padding) else []), "bnn.sign_conv2d"]
    assert tuple(bindings(after, "bnn.sign_conv2d")[0].attrs.codes) == expected


def test_a_dense_layer_by_signs_keeps_bits():
    weights = rng.choice(np.array([-1, 1], np.int8), (20, 70))
    mod = module(lambda x: bnn.dense(relax.BlockBuilder().normalize(codes(x, 0, 1, 16)), const(weights)), ((3, 70), "float32"))
    assert operators(rewritten(pack_code_signs, mod, context())) == ["bnn.quantize", "bnn.sign_dense"]


def test_bytes_from_outside_are_codes():
    mod = module(lambda x: bnn.conv2d(x, const(SIGNS[..., :3])), ((1, 6, 5, 3), "uint8"))
    after = rewritten(pack_code_signs, mod, context(), rng.integers(0, 256, (1, 6, 5, 3)).astype(np.uint8))
    assert tuple(bindings(after, "bnn.sign_conv2d")[0].attrs.codes) == (0, 255, 1)


@pytest.mark.parametrize(
    "weights, sums", [(SIGNS * 3, ALWAYS), (np.abs(SIGNS) - 1, ALWAYS), (SIGNS, None), (SIGNS, SUMS)], ids=["threes", "zeros", "never", "few outputs"]
)
def test_other_layers_are_left(weights, sums):
    unchanged(pack_code_signs, layer(weights.astype(np.int8), 0, 1, 16), context(sums))


def test_the_report_says_how_the_layer_runs():
    mod = layer(SIGNS, 0, 1, 16)
    ctx = context()
    (made,) = bindings(mod, "bnn.conv2d")
    ctx.layers.append(LayerRow("n", "Conv", "y", False, "4-bit input, 1-bit weights: integers", 1, 2, (1,), (1,), "", True))
    name = next(b.var.name for b in mod["main"].body.blocks[0].bindings if b.value.same_as(made))
    ctx.sums[name] = 0
    pack_code_signs(mod, ctx)
    assert ctx.layers[0].reason == "4-bit input, 1-bit weights: sums of 4 codes of 4 bits, looked up by 4 signs"
    assert ctx.layers[0].weight_bytes == SIGNS.size // 8
