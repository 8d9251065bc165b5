"""Binary layers of any shape as groups, with random operands; their kernels are compiled and timed by hand, without a network around them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.ops import bnn
from bnncc.ops.pack import words_per_group

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "schedules"))
from group_runner import CompiledGroup, assembly, group, words  # noqa: E402

__all__ = ["CompiledGroup", "Layer", "OTHERS", "PLAIN", "assembly", "words"]


@dataclass(frozen=True)
class Layer:
    """A binary convolution with thresholds and packing, its input padded before; `size` is that of the output, 1 x 1 of size 1 is a dense layer."""

    inputs: int
    outputs: int
    size: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.size**2 * self.outputs * self.inputs // self.groups * self.kernel**2

    @property
    def source(self) -> int:
        """Height and width of the padded input."""
        return (self.size - 1) * self.stride + self.dilation * (self.kernel - 1) + 1

    @property
    def title(self) -> str:
        """What tables call it."""
        if self.size == 1:
            return f"dense {self.inputs} x {self.outputs}"
        channels = f"{self.inputs}" if self.inputs == self.outputs else f"{self.inputs} to {self.outputs}"
        extra = (
            [f"stride {self.stride}"] * (self.stride > 1) + [f"dilation {self.dilation}"] * (self.dilation > 1) + [f"{self.groups} groups"] * (self.groups > 1)
        )
        return ", ".join([f"{self.kernel}x{self.kernel} {channels}@{self.size}", *extra])

    def build(self, seed: int = 0):
        """Return the group and its operands."""
        rng = np.random.default_rng(seed)
        per_group = words_per_group(self.inputs, self.groups, 64)
        types = [
            ((1, self.source, self.source, self.groups * per_group), "uint64"),
            ((self.outputs, self.kernel, self.kernel, per_group), "uint64"),
            ((1, self.outputs), "int32"),
            ((self.outputs,), "int8"),
        ]
        arrays = [
            words(rng, (1, self.source, self.source), 64, self.inputs, self.groups),
            words(rng, (self.outputs, self.kernel, self.kernel), 64, self.inputs // self.groups),
            rng.integers(-9, 10, (1, self.outputs)).astype(np.int32),
            rng.choice(np.array([-1, 1], np.int8), self.outputs),
        ]

        def emit(b, x, w, thresholds, flip):
            sums = bnn.packed_conv2d(
                x, w, channels=self.inputs, strides=(self.stride,) * 2, dilation=(self.dilation,) * 2, groups=self.groups
            )
            return bnn.pack(b.emit(bnn.quantize(b.emit(sums), thresholds, flip)), channels=self.outputs)

        return group(emit, *types, constants=(1, 2, 3)), arrays


PLAIN = tuple(Layer(c, c, size) for c, size in ((64, 56), (128, 28), (256, 14), (512, 7)))
"""The 3x3 layers of a ResNet."""

OTHERS = (
    (Layer(128, 128, 28, kernel=1), 1),
    (Layer(256, 256, 14, kernel=1), 2),
    (Layer(256, 256, 14, stride=2), 2),
    (Layer(256, 256, 14, dilation=2), 2),
    (Layer(256, 256, 14, groups=2), 2),
    (Layer(256, 256, 14, groups=4), 2),
    (Layer(256, 256, 14, groups=8), 2),
    (Layer(32, 32, 56), 0),
    (Layer(96, 96, 28), 1),
    (Layer(160, 160, 14), 2),
    (Layer(512, 512, 7, kernel=1), 3),
    (Layer(256, 256, 4, kernel=1), 2),
    (Layer(512, 512, 2, kernel=1), 3),
    (Layer(64, 64, 1, kernel=1), 0),
    (Layer(256, 256, 1, kernel=1), 2),
    (Layer(1024, 128, 1, kernel=1), 1),
    (Layer(1024, 1024, 1, kernel=1), 3),
    (Layer(2048, 2048, 1, kernel=1), 3),
    (Layer(4096, 4096, 1, kernel=1), 3),
)
"""Layers of other shapes, each with the number of the plain one of like size."""
