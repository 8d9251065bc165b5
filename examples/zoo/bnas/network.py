"""BNAS: Kim, Singh, Choi: Learning Architectures for Binary Networks, ECCV 2020 (arXiv 2002.06963).

The cell that the search found with the zeroise layer: branches that are a constant 0, dilated and plain binary convolutions, max pools, and
skips between cells. Faithful to the authors' code (gistvision/bnas, ``src/operations.py``, ``model.py``, ``genotypes.py`` and ``bin_utils.py``):
BatchNorm -> sign -> convolution -> ReLU; zeroise as ``x.mul(0.)``; from the second cell on, a cell's input is added to its output, in the
reduction cell through BatchNorm and a real 2x2 convolution of stride 2; weights mean-centred, clipped and signed, times their mean magnitude.
The two cells in front and behind the reduction are normal ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn

NORMAL = (("none", 1), ("dilated 3", 0), ("plain 3", 1), ("none", 2), ("none", 2), ("none", 3), ("plain 5", 0), ("average", 4))
"""As found, but for the last two: a wide convolution and an average pool, which other cells of that search have."""

REDUCE = (("max", 0), ("none", 1), ("max", 0), ("none", 2), ("none", 3), ("none", 2), ("none", 3), ("none", 4))


class BinaryConv(nn.Module):
    """BatchNorm, sign, convolution, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, affine: bool = True):
        super().__init__()
        self.bn, self.options = nn.BatchNorm2d(c_in, affine=affine), {"stride": stride, "padding": padding, "dilation": dilation}
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        w = (self.weight - self.weight.mean(1, keepdim=True)).clamp(-1.0, 1.0)
        scale = w.norm(1, 3, keepdim=True).sum(2, keepdim=True).sum(1, keepdim=True) / w[0].numel()
        return F.relu(F.conv2d(sign_function(self.bn(x)), w.sign().mul(scale.expand_as(w)), **self.options))


class Zero(nn.Module):
    """Zeroise: a branch of nothing."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0) if self.stride == 1 else x[:, :, :: self.stride, :: self.stride].mul(0.0)


def operation(name: str, c: int, stride: int) -> nn.Module:
    """Return one branch of the search space."""
    if name == "none":
        return Zero(stride)
    if name == "max":
        return nn.MaxPool2d(3, stride=stride, padding=1)
    if name == "average":
        return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
    kernel = int(name[-1])
    dilation = 2 if name.startswith("dilated") else 1
    return BinaryConv(c, c, kernel, stride, dilation * (kernel // 2), dilation)


class Cell(nn.Module):
    """Two inputs, four nodes of two branches each, concatenated."""

    def __init__(self, first: bool, before_last: int, last: int, c: int, reduction: bool, after_reduction: bool):
        super().__init__()
        self.first, self.reduction = first, reduction
        self.preprocess0 = BinaryConv(before_last, c, 3, 2, 1, affine=False) if after_reduction else BinaryConv(before_last, c, 1)
        self.preprocess1 = BinaryConv(last, c, 1)
        self.residual = nn.Sequential(nn.BatchNorm2d(last), nn.Conv2d(last, 4 * c, 2, stride=2)) if reduction else nn.Identity()
        genotype = REDUCE if reduction else NORMAL
        self.sources = [source for _, source in genotype]
        self.branches = nn.ModuleList(operation(name, c, 2 if reduction and source < 2 else 1) for name, source in genotype)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for i in range(0, len(self.sources), 2):
            states.append(self.branches[i](states[self.sources[i]]) + self.branches[i + 1](states[self.sources[i + 1]]))
        out = torch.cat(states[2:], dim=1)
        return out if self.first else out + self.residual(s1)


class Network(nn.Module):
    """Stem BatchNorm -> convolution -> ReLU, then normal, reduction and normal cell, classifier."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.bn, self.stem = nn.BatchNorm2d(3), nn.Conv2d(3, 3 * c, 3, padding=1, bias=False)
        self.cells = nn.ModuleList([
            Cell(True, 3 * c, 3 * c, c, False, False),
            Cell(False, 3 * c, 4 * c, 2 * c, True, False),
            Cell(False, 4 * c, 8 * c, 2 * c, False, True),
        ])  # fmt: skip
        self.classifier = nn.Linear(8 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = F.relu(self.stem(self.bn(x)))
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        out = F.adaptive_avg_pool2d(s1, 1)
        return self.classifier(out.view(out.size(0), -1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
