"""Quantizers of one tensor side by side become one quantizer of its channels repeated; codes made twice are made once."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.relax import op

from bnncc.ops import bnn
from bnncc.passes.fold_slices import fold_slices
from bnncc.passes.rewrite import const

from .programs import bindings, module, operators, rewritten, unchanged

X = ((1, 4, 6, 5), "float32")


def quantized(x, seed, levels=1, flips=True):
    rng = np.random.default_rng(seed)
    thresholds = np.sort(rng.standard_normal((levels, 5)).astype(np.float32), axis=0)
    flip = rng.choice(np.array([-1, 1], np.int8), 5) if flips else np.int8(1)
    return bnn.quantize(x, const(thresholds[:, ::1] if (levels == 1 or not flips) else thresholds[:1].repeat(levels, 0)), const(flip), -1, 3 - levels)


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("flips", [False, True])
def test_slices_one_after_another(levels, flips):
    after = rewritten(fold_slices, module(lambda x: op.concat([quantized(x, i, levels, flips) for i in range(4)], axis=3), X))
    assert operators(after) == ["bnn.repeat_channels", "bnn.quantize"]
    (repeats,) = bindings(after, "bnn.repeat_channels")
    assert (repeats.attrs.each, repeats.attrs.times) == (1, 4)


def test_slices_interleaved():
    order = np.arange(20).reshape(4, 5).T.reshape(-1).astype(np.int32)
    build = lambda x: op.take(op.concat([quantized(x, i) for i in range(4)], axis=3), const(order), 3, "clip")  # noqa: E731
    after = rewritten(fold_slices, module(build, X))
    assert operators(after) == ["bnn.repeat_channels", "bnn.quantize"]
    assert bindings(after, "bnn.repeat_channels")[0].attrs.each == 4


@pytest.mark.parametrize("interleaved", [False, True])
def test_pools_of_slices_become_one(interleaved):
    def build(x):
        pooled = [bnn.max_pool2d(quantized(x, i), const(np.resize(np.array([1, -1, -1], np.int8), 5)), (2, 2), (2, 2), (0, 0, 0, 0)) for i in range(2)]
        whole = op.concat(pooled, axis=3)
        return op.take(whole, const(np.array([0, 5, 1, 6, 2, 7, 3, 8, 4, 9], np.int32)), 3, "clip") if interleaved else whole

    assert operators(rewritten(fold_slices, module(build, X))) == ["bnn.repeat_channels", "bnn.quantize", "bnn.max_pool2d"]


def test_equal_codes_are_made_once():
    after = rewritten(fold_slices, module(lambda x: (op.concat([quantized(x, 1), quantized(x, 2)], 3), op.concat([quantized(x, 1), quantized(x, 2)], 3)), X))
    assert operators(after) == ["bnn.repeat_channels", "bnn.quantize"]


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4]])
def test_another_selection_stays_a_selection_of_bits(order):
    build = lambda x: op.take(op.concat([quantized(x, i) for i in range(2)], axis=3), const(np.array(order, np.int32)), 3, "clip")  # noqa: E731
    assert operators(rewritten(fold_slices, module(build, X)))[-1] in ("take", "bnn.quantize")


def test_quantizers_of_different_tensors_and_other_axes_stay_apart():
    unchanged(fold_slices, module(lambda x, y: op.concat([quantized(x, 0), quantized(y, 0)], axis=3), X, X))
    unchanged(fold_slices, module(lambda x: op.concat([quantized(x, 0), quantized(x, 1)], axis=1), X))
    unchanged(fold_slices, module(lambda x: op.concat([quantized(x, 0), quantized(x, 1, 2)], axis=3), X))
