"""BATS: Bulat, Martinez, Tzimiropoulos: BATS: Binary ArchitecTure Search, ECCV 2020 (arXiv 2003.01711).

Two cells, narrower. Checked against 1adrianb/binary-networks-pytorch (bnn/models/bats.py, bnn/models/layers/bats_ops.py, bnn/ops.py): an operation is
BatchNorm -> sign -> grouped convolution (12 groups, plain or dilated) -> PReLU -> channel shuffle by 4, added to its input where the stride is 1; 1x1 in
front of a cell the same without the shuffle; max and average pools, skips and zeros beside them; two operations summed a node, nodes concatenated. Weights
are mean(|W|) sign(W), by norms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class BinaryConv2d(nn.Conv2d):
    """Binarizes its input and its weights."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.norm(1, 3, keepdim=True).sum([2, 1], keepdim=True).div(self.weight[0].nelement())
        return self._conv_forward(sign_function(x), sign_function(self.weight).mul(scale.expand_as(self.weight)), bias=self.bias)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the groups."""
    n, c, h, w = x.size()
    return torch.transpose(x.view(n, groups, c // groups, h, w), 1, 2).contiguous().view(n, -1, h, w)


class Operation(nn.Module):
    """Binary convolution of 12 groups."""

    def __init__(self, c: int, dilation: int):
        super().__init__()
        conv = BinaryConv2d(c, c, kernel_size=3, stride=1, padding=dilation, dilation=dilation, groups=12, bias=False)
        self.op = nn.Sequential(nn.BatchNorm2d(c), conv, nn.PReLU(num_parameters=c))

    def forward(self, x: Tensor) -> Tensor:
        return x + channel_shuffle(self.op(x), 4)


class Preprocess(nn.Module):
    """Binary 1x1, with a shortcut where channels agree."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.op = nn.Sequential(nn.BatchNorm2d(c_in), BinaryConv2d(c_in, c_out, kernel_size=1, bias=False), nn.PReLU(num_parameters=c_out))
        self.skip = c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.op(x) if self.skip else self.op(x)


class Zero(nn.Module):
    """A branch that the search left empty."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(x.size(), dtype=torch.float32)


class Cell(nn.Module):
    """Two inputs, three nodes."""

    def __init__(self, c_before: int, c_in: int, c: int):
        super().__init__()
        self.preprocess0, self.preprocess1 = Preprocess(c_before, c), Preprocess(c_in, c)
        operations = [Operation(c, 1), nn.MaxPool2d(3, 1, 1), Operation(c, 2), nn.Identity(), Zero(), nn.AvgPool2d(3, 1, 1, count_include_pad=False)]
        self.ops, self.indices = nn.ModuleList(operations), [1, 0, 2, 0, 0, 3]

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        states = [self.preprocess0(before), self.preprocess1(x)]
        for i in range(3):
            first, second = self.ops[2 * i](states[self.indices[2 * i]]), self.ops[2 * i + 1](states[self.indices[2 * i + 1]])
            states.append(first + second)
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    """Float stem, two cells, float classifier."""

    def __init__(self, c: int = 24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 2 * c, 3, padding=1, bias=False), nn.BatchNorm2d(2 * c), nn.ReLU(inplace=True))
        self.first, self.second, self.fc = Cell(2 * c, 2 * c, c), Cell(2 * c, 3 * c, c), nn.Linear(3 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        s0 = self.stem(x)
        s1 = self.first(s0, s0)
        x = F.adaptive_avg_pool2d(self.second(s0, s1), 1)
        return self.fc(x.view(x.size(0), -1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 12, 12))
