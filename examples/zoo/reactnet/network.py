"""ReActNet: Liu, Shen, Savvides, Cheng: ReActNet: Towards Precise BNN with Generalized Activation Functions, ECCV 2020 (arXiv 2003.03488).

MobileNet's shape, narrower. Faithful to the authors' code: RSign (learned shift, sign with the polynomial estimator's residue) -> HardBinaryConv
-> BatchNorm -> shortcut -> RPReLU; a 3x3, strided with an AvgPool shortcut, then a 1x1, or two of them concatenated where channels double.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import HardBinaryConv, RPReLU, RSign, fit
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """3x3, then 1x1."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.stride, self.double = stride, c_in != c_out
        self.move1, self.conv1, self.bn1, self.act1 = RSign(c_in), HardBinaryConv(c_in, c_in), nn.BatchNorm2d(c_in), RPReLU(c_in)
        self.conv1.stride = stride
        self.move2, self.act2 = RSign(c_in), RPReLU(c_out)
        branches = c_out // c_in
        self.convs = nn.ModuleList(HardBinaryConv(c_in, c_in, 1) for _ in range(branches))
        self.bns = nn.ModuleList(nn.BatchNorm2d(c_in) for _ in range(branches))

    def forward(self, x: Tensor) -> Tensor:
        out1 = self.bn1(self.conv1(self.move1(x)))
        out1 = self.act1((F.avg_pool2d(x, 2, 2) if self.stride == 2 else x) + out1)
        bits = self.move2(out1)
        parts = [bn(conv(bits)) + out1 for conv, bn in zip(self.convs, self.bns)]
        return self.act2(torch.cat(parts, dim=1) if self.double else parts[0])


class Network(nn.Module):
    """Float stem, two blocks, float classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c))
        self.blocks = nn.Sequential(BasicBlock(c, 2 * c), BasicBlock(2 * c, 2 * c, 2))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.fc(x.view(x.size(0), -1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
