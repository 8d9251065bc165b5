"""Float kernels for 64-bit Arm: close to their NumPy meaning under an emulator, and their inner loops."""

from __future__ import annotations

import re

import numpy as np
import pytest
from group_runner import assembly, group
from test_neon_kernels import NEON, STACK, basic_blocks, emulated
from test_other_anchor_kernels import check_close, floats
from tvm.script import relax as R

from bnncc.targets import find_target

# input and output channels, size, kernel, stride: the stem of a ResNet, its 3x3 kind, a 1x1 downsample, rows of 7 pixels, channels that fill no register
LAYERS = ((3, 64, 112, 7, 2), (3, 32, 56, 3, 2), (64, 128, 28, 1, 1), (256, 512, 7, 1, 1), (17, 19, 13, 3, 1))


def convolution(inputs: int, outputs: int, size: int, kernel: int, stride: int):
    source = (size - 1) * stride + kernel
    emit = lambda b, x, w: R.nn.conv2d(x, w, strides=stride, data_layout="NHWC", kernel_layout="HWIO")  # noqa: E731
    return group(emit, ((1, source, source, inputs), "float32"), ((kernel, kernel, inputs, outputs), "float32"), constants=(1,))


def product(inputs: int, outputs: int):
    return group(lambda b, x, w: R.matmul(x, w), ((1, inputs), "float32"), ((inputs, outputs), "float32"), constants=(1,))


@emulated
@pytest.mark.parametrize("inputs, outputs, size, kernel, stride", [(3, 64, 9, 7, 2), (5, 7, 8, 3, 1), (16, 24, 7, 1, 2), (2, 4, 5, 1, 1)])
def test_convolutions_take_lanes_of_inputs_and_single_ones_of_what_is_left(inputs, outputs, size, kernel, stride, tmp_path):
    rng = np.random.default_rng(inputs)
    function = convolution(inputs, outputs, size, kernel, stride)
    source = (size - 1) * stride + kernel
    check_close(function, [floats(rng, 1, source, source, inputs), floats(rng, kernel, kernel, inputs, outputs)], tmp_path, 1e-4, NEON)


@emulated
@pytest.mark.parametrize("inputs, outputs", [(7, 5), (64, 100)])
def test_matrix_products_are_close(inputs, outputs, tmp_path):
    rng = np.random.default_rng(inputs)
    check_close(product(inputs, outputs), [floats(rng, 1, inputs), floats(rng, inputs, outputs)], tmp_path, 1e-4, NEON)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("target", ["aarch64", "cortex-a53", "cortex-a55", "cortex-a76", "apple-m1"])
def test_the_inner_loops_of_float_convolutions_spill_nothing(layer, target):
    loops = multiplying(assembly(convolution(*layer), find_target(target).variants[0]))
    for body in loops:
        assert not STACK.search(body), "the loop uses the stack"
        assert not re.search(r"\tmov\tv\d+\.16b", body), "a register is copied"


@pytest.mark.parametrize("layer", LAYERS[:3], ids=str)
def test_four_multiply_adds_take_one_instruction_beside_them_at_most(layer):
    body = max(multiplying(assembly(convolution(*layer), NEON)), key=lambda body: body.count("\tfmla\t"))
    assert len(re.findall(r"(?m)^\t[a-z]", body)) <= 1.25 * body.count("\tfmla\t")


def test_a_matrix_product_of_one_row_spills_nothing():
    for body in multiplying(assembly(product(512, 1000), NEON)):
        assert not STACK.search(body)


def multiplying(code: str) -> list[str]:
    """Return the basic blocks of more than 8 multiply-adds."""
    loops = [body for body in basic_blocks(code) if body.count("\tfmla\t") > 8]
    assert loops
    return loops
