from __future__ import annotations

import numpy as np
import pytest

from bnncc.ops import bnn
from bnncc.ops.signed_sum_conv2d import spell_signs
from bnncc.passes.context import LayerRow, Options, PassContext
from bnncc.passes.rewrite import const
from bnncc.passes.sum_signed_codes import sum_signed_codes

from .programs import bindings, module, rewritten, signs, unchanged

rng = np.random.default_rng(3)
IMAGE = ((1, 6, 7, 3), "uint8")
PIXELS = rng.integers(0, 256, IMAGE[0]).astype(np.uint8)


def scalars(**options) -> PassContext:
    """Return the context of a processor without vectors."""
    return PassContext(Options(sums_codes=True, widens_codes=False, **options))


def convolution(weights, **geometry):
    """Return a function that convolves bytes."""
    return lambda x: bnn.conv2d(x, const(weights), **geometry)


def test_signs_on_bytes_become_sums_that_know_them():
    weights = signs(rng, 5, 3, 3, 3)
    after = rewritten(sum_signed_codes, module(convolution(weights, padding=(1, 1, 0, 1), strides=(2, 1), pad_code=128), IMAGE), scalars(), PIXELS)
    (call,) = bindings(after, "bnn.signed_sum_conv2d")
    attrs = call.attrs
    assert (int(attrs.lo), int(attrs.hi), int(attrs.pad_code), str(attrs.signs)) == (0, 255, 128, spell_signs(weights))


def test_codes_of_a_quantizer_say_their_range():
    limits = np.sort(rng.standard_normal((14, 1)).astype(np.float32), axis=0)
    mod = module(
        lambda x: bnn.conv2d(bnn.quantize(x, const(limits), const(np.int8(1)), -7, 1), const(signs(rng, 8, 3, 3, 4))), ((1, 5, 5, 4), "float32")
    )
    (call,) = bindings(rewritten(sum_signed_codes, mod, scalars()), "bnn.signed_sum_conv2d")
    assert (int(call.attrs.lo), int(call.attrs.hi)) == (-7, 7)


@pytest.mark.parametrize(
    "weights, geometry, image",
    [
        (rng.integers(-2, 3, (5, 3, 3, 3)).astype(np.int8), {}, IMAGE),
        (signs(rng, 6, 3, 3, 1), {"groups": 3}, IMAGE),
        (signs(rng, 6, 2, 2, 3), {"dilation": (2, 2)}, IMAGE),
        (signs(rng, 6, 3, 3, 16), {}, ((1, 6, 7, 16), "uint8")),
        (signs(rng, 6, 3, 7, 3), {}, IMAGE),
    ],
    ids=["weights of other values", "groups", "dilation", "many channels", "a single column"],
)
def test_other_layers_stay_as_they_are(weights, geometry, image):
    unchanged(sum_signed_codes, module(convolution(weights, **geometry), image), scalars())


def test_processors_with_vectors_keep_products():
    unchanged(sum_signed_codes, module(convolution(signs(rng, 5, 3, 3, 3)), IMAGE), PassContext())


@pytest.mark.parametrize("kernel, reason", [(3, "sums of a few taps, added and subtracted"), (10, "sums of 300 codes from 0 to 255 do not fit 16 bits")])
def test_the_report_says_which_way_was_taken_and_why(kernel, reason):
    mod = module(convolution(signs(rng, 4, kernel, kernel, 3)), ((1, 12, 12, 3), "uint8"))
    ctx = scalars()
    ctx.layers.append(LayerRow("conv", "Conv", "y", False, "8-bit input, 1-bit weights: integer arithmetic", 1, 10, (), (), "", True))
    ctx.sums[mod["main"].body.blocks[0].bindings[0].var.name] = 0
    sum_signed_codes(mod, ctx)
    assert ctx.layers[0].reason.startswith("8-bit input, 1-bit weights: ") and ctx.layers[0].reason.endswith(reason)
