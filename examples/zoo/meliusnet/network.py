"""MeliusNet: Bethge, Bartz, Yang, Chen, Meinel: MeliusNet: An Improved Network Architecture for BNNs, WACV 2021 (arXiv 2001.05936).

The shape of MeliusNet-A, narrower. Checked against hpi-xnor/bitorch (models/meliusnet.py, models/densenet.py, models/common_layers.py, layers/qconv2d.py) and
hpi-xnor/BMXNet-v2-examples (binary_models/meliusnet.py): a Dense Block (BatchNorm -> sign with 0 as +1 -> padding with -1 -> 3x3, concatenated) followed by an
Improvement Block (the same convolution, added to the newest channels only: `narrow`, a sum, a concatenation); the grouped float stem of three 3x3 convolutions,
with a pool behind; transitions BatchNorm -> MaxPool -> ReLU -> channel shuffle of 16 -> grouped real-valued 1x1.
"""

from __future__ import annotations

import torch
from bitorch_layers import DenseLayer, QConv2d, initial_layers, transition
from layers import fit
from torch import Tensor, nn


class ImprovementBlock(nn.Module):
    """BatchNorm and a binary 3x3, added to the last channels."""

    def __init__(self, channels: int, c_in: int):
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(c_in), QConv2d(c_in, channels, kernel_size=3, stride=1, padding=1))
        self.slices = [0, c_in - channels, c_in]

    def forward(self, x: Tensor) -> Tensor:
        residual, parts = x, []
        x = self.body(x)
        for add, begin, end in zip((False, True), self.slices, self.slices[1:]):
            part = torch.narrow(residual, dim=1, start=begin, length=end - begin)
            parts.append(part + x if add else part)
        return torch.cat(parts, dim=1)


class Network(nn.Module):
    """Grouped stem, two pairs with a transition between."""

    def __init__(self, c: int = 32, growth: int = 16):
        super().__init__()
        pair = lambda width: [DenseLayer(width, growth), ImprovementBlock(growth, width + growth)]  # noqa: E731
        middle = transition(c + growth, 24, shuffle=16, groups=4)
        self.features = nn.Sequential(*initial_layers("grouped_stem", c), *pair(c), middle, *pair(24))
        self.finalize = nn.Sequential(nn.BatchNorm2d(24 + growth), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.output = nn.Linear(24 + growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.finalize(self.features(x)))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 48, 48))
