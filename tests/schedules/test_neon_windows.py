"""Depthwise convolutions and maxima of floats on 64-bit Arm: their values under an emulator, and their inner loops."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from group_runner import CompiledGroup, assembly, group
from test_neon_kernels import NEON, STACK, basic_blocks, emulated
from test_other_anchor_kernels import check_close, floats
from tvm.script import relax as R

from bnncc.targets import find_target


def depthwise(channels: int, size: int, kernel: int, stride: int, dilation: int = 1):
    source = (size - 1) * stride + (kernel - 1) * dilation + 1
    emit = lambda b, x, w: R.nn.conv2d(  # noqa: E731
        x, w, strides=stride, dilation=dilation, groups=channels, data_layout="NHWC", kernel_layout="HWIO"
    )
    return group(emit, ((1, source, source, channels), "float32"), ((kernel, kernel, 1, channels), "float32"), constants=(1,))


def maxima(channels: int, size: int, kernel: int, stride: int, padding: int, ceil: bool = False):
    emit = lambda b, x: R.nn.max_pool2d(x, (kernel,) * 2, (stride,) * 2, (padding,) * 4, layout="NHWC", ceil_mode=ceil)  # noqa: E731
    return group(emit, ((1, size, size, channels), "float32"))


@emulated
@pytest.mark.parametrize("channels, size, kernel, stride, dilation", [(4, 5, 3, 1, 1), (12, 7, 3, 2, 1), (16, 6, 5, 1, 1), (8, 5, 3, 1, 2), (7, 5, 3, 1, 1)])
def test_depthwise_convolutions_are_close(channels, size, kernel, stride, dilation, tmp_path):
    rng = np.random.default_rng(size)
    source = (size - 1) * stride + (kernel - 1) * dilation + 1
    arrays = [floats(rng, 1, source, source, channels), floats(rng, kernel, kernel, 1, channels)]
    check_close(depthwise(channels, size, kernel, stride, dilation), arrays, tmp_path, 1e-5, NEON)


@emulated
@pytest.mark.parametrize(
    "channels, size, kernel, stride, padding, ceil", [(4, 9, 3, 2, 1, False), (12, 8, 2, 2, 0, False), (8, 8, 3, 2, 1, True), (20, 6, 3, 1, 1, False)]
)
def test_maxima_agree_with_onnxruntime(channels, size, kernel, stride, padding, ceil, tmp_path):
    x = floats(np.random.default_rng(size), 1, size, size, channels)
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4, ceil_mode=int(ceil))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "pool", [value("x", 1, [1, channels, size, size])], [value("y", 1, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    (found,) = CompiledGroup(maxima(channels, size, kernel, stride, padding, ceil), tmp_path, NEON)(x)
    np.testing.assert_array_equal(found.transpose(0, 3, 1, 2), expected)


@pytest.mark.parametrize("target", ["aarch64", "cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76", "neoverse-n1", "apple-m1"])
@pytest.mark.parametrize("function", [depthwise(128, 28, 3, 1), depthwise(64, 14, 5, 2), maxima(64, 112, 3, 2, 1)], ids=["3x3", "5x5", "maximum"])
def test_the_inner_loops_spill_nothing_and_share_what_they_load(function, target):
    operation = r"\t(?:fmla|fmul|fmaxnm)\t"
    loops = [body for body in basic_blocks(assembly(function, find_target(target).variants[0])) if len(re.findall(operation, body)) > 40]
    assert loops
    for body in loops:
        assert not STACK.search(body), "the loop uses the stack"
        most = 2.5 if target == "cortex-a55" else 2.1  # for the A55 LLVM pairs no loads
        assert len(re.findall(r"(?m)^\t[a-z]", body)) <= most * len(re.findall(operation, body))
