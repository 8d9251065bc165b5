"""CP-NAS: Zhuo, Zhang, Chen, Yang, Chen, Zhu, Doermann: Child-Parent Neural Architecture Search for 1-bit CNNs, IJCAI 2020 (arXiv 2005.00057).

A cell of two inputs and four nodes, two branches a node: depthwise separable and dilated binary convolutions, pools with BatchNorm, skips, and
zeroise (``x * 0``); where the stride is 2, a skip is two binary 1x1 convolutions of the image and of the image less its first row and column. No
public code of CP-NAS was found; spelled after the same group's later YanjingLi0202/DCP-NAS (``models/darts_ops_m.py``, ``darts_cell_m.py``,
``binary/BConv.py``): BatchNorm -> sign -> Bi-Real Net's HardBinaryConv, residues and all -> BatchNorm -> PReLU, nodes added up and divided
by their number. There the depthwise convolutions read real numbers; here all read signs, as the paper says. (Bi-Real Net's long spelling of the
sign, which that code has too, is in the folders bireal and reactnet: here it would fill the file.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import HardBinaryConv, fit, sign_function
from torch import Tensor, nn

NORMAL = (("separable 3", 0), ("skip", 1), ("dilated 3", 1), ("zero", 0), ("average", 0), ("dilated 5", 2), ("max", 3), ("separable 3", 2))
REDUCE = (("max", 0), ("skip", 1), ("dilated 3", 0), ("zero", 1), ("skip", 2), ("average", 1), ("dilated 5", 3), ("skip", 2))


class BinaryConv(HardBinaryConv):
    """Signs its input too; any stride, padding, dilation and number of groups."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1):
        super().__init__(c_in // groups, c_out, kernel)
        self.options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(sign_function(x), self.binary_weight(), **self.options)


def norm(c: int) -> nn.BatchNorm2d:
    """BatchNorm behind a convolution."""
    return nn.BatchNorm2d(c, eps=0.001)


class Dilated(nn.Module):
    """Depthwise, then pointwise, with a shortcut where the stride is 1."""

    def __init__(self, c: int, kernel: int, stride: int, dilation: int):
        super().__init__()
        self.bn0, self.conv1 = norm(c), BinaryConv(c, c, kernel, stride, dilation * (kernel // 2), dilation, groups=c)
        self.bn1, self.relu0, self.conv2 = norm(c), nn.PReLU(c), BinaryConv(c, c, 1)
        self.bn2, self.relu1, self.stride = norm(c), nn.PReLU(c), stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu0(self.bn1(self.conv1(self.bn0(x))))
        y = self.bn2(self.conv2(y))
        return self.relu1(x + y if self.stride == 1 else y)


class FactorizedReduce(nn.Module):
    """Two strided 1x1 convolutions, of the image and of the image shifted by a pixel."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.bn0, self.conv1, self.conv2 = nn.BatchNorm2d(c_in), BinaryConv(c_in, c_out // 2, 1, 2), BinaryConv(c_in, c_out // 2, 1, 2)
        self.bn, self.relu = nn.BatchNorm2d(c_out), nn.PReLU(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn0(x)
        return self.relu(self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:].contiguous())], dim=1)))


class Zero(nn.Module):
    """Zeroise: a branch of nothing."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0 if self.stride == 1 else x[:, :, :: self.stride, :: self.stride] * 0.0


def operation(name: str, c: int, stride: int) -> nn.Module:
    """Return one branch of the search space."""
    if name == "zero":
        return Zero(stride)
    if name == "skip":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c)
    if name == "max":
        return nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(c))
    if name == "average":
        return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(c))
    if name.startswith("dilated"):
        return Dilated(c, int(name[-1]), stride, 2)
    return nn.Sequential(Dilated(c, int(name[-1]), stride, 1), Dilated(c, int(name[-1]), 1, 1))


def preprocess(c_in: int, c_out: int) -> nn.Sequential:
    """BatchNorm -> binary 1x1 -> BatchNorm -> PReLU."""
    return nn.Sequential(nn.BatchNorm2d(c_in), BinaryConv(c_in, c_out, 1), norm(c_out), nn.PReLU(c_out))


class Cell(nn.Module):
    """Nodes are the mean of their sums."""

    def __init__(self, before_last: int, last: int, c: int, reduction: bool, after_reduction: bool):
        super().__init__()
        self.preprocess0 = FactorizedReduce(before_last, c) if after_reduction else preprocess(before_last, c)
        self.preprocess1 = preprocess(last, c)
        genotype = REDUCE if reduction else NORMAL
        self.sources = [source for _, source in genotype]
        self.branches = nn.ModuleList(operation(name, c, 2 if reduction and source < 2 else 1) for name, source in genotype)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for i in range(0, len(self.sources), 2):
            states.append(self.branches[i](states[self.sources[i]]) + self.branches[i + 1](states[self.sources[i + 1]]))
        total = torch.zeros_like(states[2])
        for state in states[2:]:
            total = total + state
        return total / (len(states) - 2)


class Network(nn.Module):
    """Float stem, normal and reduction cell, classifier."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.cells = nn.ModuleList([Cell(c, c, c, False, False), Cell(c, c, 2 * c, True, False)])
        self.linear = nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        out = F.adaptive_avg_pool2d(s1, 1)
        return self.linear(out.view(out.size(0), -1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
