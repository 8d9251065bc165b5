"""Real activations by signs stored as bits: kernels and NumPy agree exactly on whole numbers, whose sums float32 holds."""

from __future__ import annotations

import numpy as np
import pytest
from covering import in_turn
from group_runner import check_exact, group
from test_neon_kernels import NEON, emulated
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.conv2d import Conv2dAttrs, conv2d_reference, dense_reference
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.ops.sign_conv2d import SignConv2dAttrs, sign_conv2d_reference, sign_dense_reference
from bnncc.schedules import build_kernel
from bnncc.targets.x86 import V2, V3, V4, runs_here

VARIANTS = pytest.mark.parametrize("variant", [V2, V3, V4, pytest.param(NEON, marks=emulated)], ids=lambda v: v.name)


def drawn(x_shape, w_shape, bits=64):
    rng = np.random.default_rng(sum(w_shape))
    signs = rng.choice(np.array([-1, 1], np.int8), w_shape)
    return rng.integers(-99, 100, x_shape).astype(np.float32), signs, pack_reference(PackAttrs(w_shape[-1], 1, bits), signs)


@pytest.mark.parametrize("bits", [8, 32, 64])
@pytest.mark.parametrize("groups", [1, 3])
def test_signs_are_what_integer_weights_are(groups, bits):
    x, signs, words = drawn((2, 6, 5, 9), (6, 3, 2, 9 // groups), bits)
    found = sign_conv2d_reference(SignConv2dAttrs((2, 1), (1, 2), groups), x, words)
    np.testing.assert_array_equal(found, conv2d_reference(Conv2dAttrs((2, 1), (0, 0, 0, 0), (1, 2), groups, 0), x, signs))
    rows, signs, words = drawn((3, 70), (5, 70), bits)
    np.testing.assert_array_equal(sign_dense_reference(None, rows, words), dense_reference(None, rows, signs))


SHAPES = [
        (3, 20, 12, 3, 1, 1, 1), (5, 7, 8, 3, 2, 2, 1), (33, 33, 9, 3, 1, 1, 3), (40, 50, 12, 3, 1, 1, 1), (260, 30, 8, 3, 1, 1, 1),
        (64, 48, 6, 1, 1, 1, 1), (32, 40, 5, 3, 1, 1, 1), (260, 60, 8, 3, 1, 1, 2),
        (1, 32, 9, 3, 1, 1, 1), (3, 33, 11, 3, 2, 1, 1), (2, 34, 12, 3, 1, 2, 1), (6, 40, 9, 3, 1, 2, 1), (26, 70, 7, 3, 1, 1, 1), (70, 66, 8, 1, 1, 1, 2),
        (37, 24, 5, 3, 1, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize(
    "ci, co, size, kernel, stride, dilation, groups, variant",
    [*in_turn(SHAPES, [V2, V3, pytest.param(NEON, marks=emulated)], each=2), *in_turn(SHAPES, [V4])],
    ids=lambda v: getattr(v, "name", str(v)),
)
def test_convolution_by_signs_with_an_epilogue_is_exact(ci, co, size, kernel, stride, dilation, groups, variant, tmp_path):
    if variant != NEON and not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")
    x, _, words = drawn((1, size, size, ci), (co, kernel, kernel, ci // groups))
    scale = np.random.default_rng(co).choice(np.float32([0.5, -2, 1]), co)

    def emit(b, x, w, scale):
        sums = b.emit(bnn.sign_conv2d(x, w, (stride, stride), (dilation, dilation), groups))
        return relax.op.nn.relu(b.emit(relax.op.multiply(sums, scale))), sums

    check_exact(group(emit, *((a.shape, str(a.dtype)) for a in (x, words, scale)), constants=(1, 2)), [x, words, scale], tmp_path, variant)


@pytest.mark.parametrize("rows, inputs, outputs", [(1, 5, 3), (1, 300, 70), (4, 65, 24), (33, 64, 40)])
@VARIANTS
def test_dense_layer_by_signs_is_exact(rows, inputs, outputs, variant, tmp_path):
    if variant != NEON and not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}")
    x, _, words = drawn((rows, inputs), (outputs, inputs))
    check_exact(group(lambda b, x, w: bnn.sign_dense(x, w), (x.shape, "float32"), (words.shape, "uint64"), constants=(1,)), [x, words], tmp_path, variant)


def test_weights_of_a_kernel_take_a_bit_each():
    x, _, words = drawn((1, 8, 8, 64), (64, 3, 3, 64))
    kernel = build_kernel(group(lambda b, x, w: bnn.sign_conv2d(x, w), (x.shape, "float32"), (words.shape, "uint64"), constants=(1,)), V3)
    arranged = kernel.relayout[1].arrange(words)
    assert arranged.nbytes == 64 * 9 * 64 // 8
