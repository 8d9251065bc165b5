"""Networks of common shapes of layers, with random weights: 3x3 and 1x1 at the sizes of ResNet, VGG and MobileNet, float stems, and a dense layer behind them.

`shipped_records.py` tunes them. Shapes are (channels, size of the image).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["LARGE", "SMALL", "binary_network", "stem_network"]

LARGE = ((64, 56), (64, 28), (128, 28), (256, 14), (512, 7))
"""Of networks for images of 224 x 224."""

SMALL = ((64, 16),)
"""Of networks for images of 32 x 32, which microcontrollers have memory for."""


class _Network:
    def __init__(self, shape: tuple[int, ...], seed: int = 0):
        self.nodes, self.constants, self.shape = [], [], shape
        self.rng = np.random.default_rng(seed)

    def constant(self, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op: str, *inputs: str, **attributes) -> str:
        name = f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{op}{len(self.nodes)}", **attributes))
        return name

    def convolution(self, x: str, reads: int, makes: int, kernel: int, stride: int = 1, binary: bool = True) -> str:
        w = self.rng.standard_normal((makes, reads, kernel, kernel)).astype(np.float32)
        w = self.constant(np.where(w < 0, -1, 1).astype(np.float32) if binary else w)
        return self.add("Conv", x, w, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, strides=[stride] * 2)

    def normalized(self, x: str, channels: int) -> str:
        scale, variance = (self.rng.uniform(0.5, 2, channels).astype(np.float32) for _ in range(2))
        shift, mean = (self.rng.standard_normal(channels).astype(np.float32) for _ in range(2))
        return self.add("BatchNormalization", x, *map(self.constant, (scale, shift, mean, variance)))

    def model(self, result: str, shape: tuple[int, ...]) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in (("x", self.shape), (result, shape))]
        graph = helper.make_graph(self.nodes, "common_shapes", infos[:1], infos[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def binary_network(channels: int, size: int) -> onnx.ModelProto:
    """Return 3x3 and 1x1 with thresholds, then both with a shortcut, all of so many channels on images of `size` x `size`, and a block of twice the channels
    on a smaller image."""
    shape = (1, channels, size, size)
    network = _Network(shape)
    x = network.add("Sign", "x")
    for kernel in (3, 1, 3):
        x = network.add("Sign", network.normalized(network.convolution(x, channels, channels, kernel), channels))
    shortcut = network.normalized(network.convolution(x, channels, channels, 3), channels)
    for kernel in (3, 3, 1):
        made = network.convolution(network.add("Sign", shortcut), channels, channels, kernel)
        shortcut = network.add("Add", network.normalized(made, channels), shortcut)
    made = network.convolution(network.add("Sign", shortcut), channels, 2 * channels, 3, 2)
    smaller = network.add("AveragePool", shortcut, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    smaller = network.convolution(smaller, channels, 2 * channels, 1, binary=False)
    x = network.add("Add", network.normalized(made, 2 * channels), smaller)
    x = network.convolution(network.add("Sign", x), 2 * channels, channels, 1)
    return network.model(x, (1, channels, -(-size // 2), -(-size // 2)))


def stem_network(channels: int, size: int, kernel: int, stride: int) -> onnx.ModelProto:
    """Return a float convolution of an image of 3 channels, a maximum, thresholds, and a float layer over means of the image for 1000 classes."""
    network = _Network((1, 3, size, size))
    x = network.normalized(network.convolution("x", 3, channels, kernel, stride, binary=False), channels)
    x = network.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = network.convolution(network.add("Sign", x), channels, channels, 3)
    x = network.add("Flatten", network.add("GlobalAveragePool", network.normalized(x, channels)))
    w = network.constant(network.rng.standard_normal((channels, 1000)).astype(np.float32))
    return network.model(network.add("MatMul", x, w), (1, 1000))
