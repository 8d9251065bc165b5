"""BATS: Bulat, Martinez, Tzimiropoulos: BATS: Binary ArchitecTure Search, ECCV 2020 (arXiv 2003.01711); cells as of BNAS and CP-NAS too.

A cell of the paper's search space: binary grouped 3x3 (12 groups), the same dilated, max and average pools, skips and BNAS's zeroise
(a constant branch), two of them summed a node, nodes concatenated, channels shuffled. BatchNorm -> sign -> convolution -> ReLU with a shortcut.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class GroupedConv(nn.Module):
    """BatchNorm, sign, grouped convolution, ReLU, shortcut."""

    def __init__(self, c: int, groups: int, dilation: int):
        super().__init__()
        self.bn, self.options = nn.BatchNorm2d(c), {"padding": dilation, "dilation": dilation, "groups": groups}
        self.weight = nn.Parameter(torch.randn(c, c // groups, 3, 3) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(sign_function(self.bn(x)), sign_function(self.weight), **self.options)) + x


class Cell(nn.Module):
    """Two inputs, three nodes, 1x1 binary convolution behind."""

    def __init__(self, c: int, groups: int):
        super().__init__()
        self.groups = groups
        self.plain, self.dilated, self.other = GroupedConv(c, groups, 1), GroupedConv(c, groups, 2), GroupedConv(c, 3, 1)
        self.bn, self.merge = nn.BatchNorm2d(3 * c), nn.Parameter(torch.randn(c, 3 * c, 1, 1) * 0.1)

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        first = self.plain(x) + F.max_pool2d(before, 3, 1, 1)
        second = self.dilated(first) + before
        third = self.other(second) + F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + x.mul(0.0)
        y = torch.cat([first, second, third], dim=1)
        n, c, h, w = y.shape
        y = y.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return F.conv2d(sign_function(self.bn(y)), sign_function(self.merge))


class Network(nn.Module):
    """Float stem, two cells, float classifier."""

    def __init__(self, c: int = 24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c))
        self.first, self.second, self.bn, self.fc = Cell(c, 12), Cell(c, 12), nn.BatchNorm2d(c), nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.first(a, a)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.bn(self.second(a, b))), 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 32, 32))
