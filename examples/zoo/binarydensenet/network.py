"""BinaryDenseNet: Bethge, Yang, Bornstein, Meinel: BinaryDenseNet, ICCV Workshops 2019 (arXiv 1906.08637).

Faithful: a layer is BatchNorm -> sign -> 3x3 binary convolution (no bottleneck), concatenated to its float input, so that every layer
has thresholds of its own for the same features; a transition is BatchNorm -> MaxPool -> ReLU -> full-precision 1x1 convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import clamped_sign, fit, where_sign
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """Adds `growth` channels."""

    def __init__(self, c_in: int, growth: int):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(c_in), nn.Conv2d(c_in, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.conv2d(where_sign(self.bn(x)), clamped_sign(self.conv.weight), padding=1)], dim=1)


class Transition(nn.Module):
    """Halves the size."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(c_in), nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(F.max_pool2d(self.bn(x), 2, 2)))


class Network(nn.Module):
    """Float stem, dense blocks of three and two layers."""

    def __init__(self, c: int = 16, growth: int = 12):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True))
        first = [DenseLayer(c + i * growth, growth) for i in range(3)]
        middle = c + 3 * growth
        second = [DenseLayer(16 + i * growth, growth) for i in range(2)]
        self.body = nn.Sequential(*first, Transition(middle, 16), *second)
        self.bn, self.fc = nn.BatchNorm2d(16 + 2 * growth), nn.Linear(16 + 2 * growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.body(self.stem(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
