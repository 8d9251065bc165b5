"""MeliusNet: Bethge, Bartz, Yang, Chen, Meinel: MeliusNet: An Improved Network Architecture for BNNs, WACV 2021 (arXiv 2001.05936).

Faithful: a Dense Block (BatchNorm -> sign -> 3x3, concatenated) followed by an Improvement Block (BatchNorm -> sign -> 3x3, added to the
newest channels only: a slice, a sum, a concatenation); the grouped float stem of three 3x3 convolutions; transitions MaxPool -> BatchNorm ->
ReLU -> grouped float 1x1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_detached, sign_function
from torch import Tensor, nn


class Pair(nn.Module):
    """Dense Block, then Improvement Block."""

    def __init__(self, c: int, growth: int):
        super().__init__()
        self.growth = growth
        self.bn1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, growth, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(c + growth), nn.Conv2d(c + growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, F.conv2d(sign_detached(self.bn1(x)), sign_function(self.conv1.weight), padding=1)], dim=1)
        y = F.conv2d(sign_detached(self.bn2(x)), sign_function(self.conv2.weight), padding=1)
        return torch.cat([x[:, : -self.growth], x[:, -self.growth :] + y], dim=1)


class Network(nn.Module):
    """Grouped stem, two pairs with a transition between."""

    def __init__(self, growth: int = 16):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, 1, 1, groups=4, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.first, self.second = Pair(32, growth), Pair(24, growth)
        self.transition = nn.Sequential(nn.MaxPool2d(2, 2), nn.BatchNorm2d(48), nn.ReLU(inplace=True), nn.Conv2d(48, 24, 1, groups=2, bias=False))
        self.bn, self.fc = nn.BatchNorm2d(40), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.transition(self.first(self.stem(x))))
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.bn(x)), 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 32, 32))
