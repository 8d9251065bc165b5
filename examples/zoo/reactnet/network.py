"""ReActNet: Liu, Shen, Savvides, Cheng: ReActNet: Towards Precise BNN with Generalized Activation Functions, ECCV 2020 (arXiv 2003.03488).

MobileNet's shape, narrower. Checked against liuzechun/ReActNet (mobilenet/2_step2/reactnet.py): learned shift, expanded to the feature map -> sign with the
polynomial estimator's residue -> HardBinaryConv on a flat column of latent weights -> BatchNorm -> shortcut -> shift -> PReLU -> shift; a 3x3, then one
1x1, or where channels double two of them on the same binarized tensor, each with its BatchNorm and the shortcut added in place, concatenated; strided
shortcuts are AvgPool.
"""

from __future__ import annotations

import torch
from layers import HardBinaryConv, fit, polynomial_sign
from torch import Tensor, nn


class LearnableBias(nn.Module):
    """One shift a channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.expand_as(x)


class BasicBlock(nn.Module):
    """3x3, then 1x1."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.move11, self.binary_3x3, self.bn1 = LearnableBias(c_in), HardBinaryConv(c_in, c_in, 3, stride, 1), nn.BatchNorm2d(c_in)
        self.move12, self.prelu1, self.move13 = LearnableBias(c_in), nn.PReLU(c_in), LearnableBias(c_in)
        self.move21 = LearnableBias(c_in)
        self.convs = nn.ModuleList(HardBinaryConv(c_in, c_in, 1, 1, 0) for _ in range(c_out // c_in))
        self.bns = nn.ModuleList(nn.BatchNorm2d(c_in) for _ in self.convs)
        self.move22, self.prelu2, self.move23 = LearnableBias(c_out), nn.PReLU(c_out), LearnableBias(c_out)
        self.pooling = nn.AvgPool2d(2, 2) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out1 = self.bn1(self.binary_3x3(polynomial_sign(self.move11(x))))
        out1 = self.pooling(x) + out1
        out1 = self.move13(self.prelu1(self.move12(out1)))
        bits, parts = polynomial_sign(self.move21(out1)), []
        for conv, bn in zip(self.convs, self.bns):
            part = bn(conv(bits))
            part += out1
            parts.append(part)
        out2 = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return self.move23(self.prelu2(self.move22(out2)))


class Network(nn.Module):
    """Float stem, three blocks, float classifier."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c))
        self.blocks = nn.Sequential(BasicBlock(c, 2 * c), BasicBlock(2 * c, 2 * c), BasicBlock(2 * c, 4 * c, 2))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.fc(x.view(x.size(0), -1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
