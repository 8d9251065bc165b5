"""XNOR-Net++: Bulat, Tzimiropoulos: XNOR-Net++: Improved Binary Neural Networks, BMVC 2019 (arXiv 1909.13863).

Faithful: BatchNorm -> sign -> convolution -> learned scale -> ReLU with a shortcut; the scale is the outer product of learned vectors over
channels, height and width (the paper's case 4), which may be negative; strided blocks have a float 1x1 convolution on the shortcut.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class ScaledConv(nn.Module):
    """Binary convolution times alpha (C, 1, 1) * beta (1, H, 1) * gamma (1, 1, W)."""

    def __init__(self, c_in: int, c_out: int, size: int, stride: int = 1):
        super().__init__()
        self.weight, self.stride = nn.Parameter(torch.randn(c_out, c_in, 3, 3) * 0.1), stride
        self.alpha = nn.Parameter(torch.randn(c_out, 1, 1) * 0.3)
        self.beta = nn.Parameter(0.5 + torch.rand(1, size, 1))
        self.gamma = nn.Parameter(0.5 + torch.rand(1, 1, size))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(sign_function(x), sign_function(self.weight), stride=self.stride, padding=1)
        return y.mul(self.gamma).mul(self.beta).mul(self.alpha)


class Block(nn.Module):
    """Two scaled convolutions, each with a shortcut."""

    def __init__(self, c_in: int, c_out: int, size: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(c_in), ScaledConv(c_in, c_out, size, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(c_out), ScaledConv(c_out, c_out, size)
        same = stride == 1 and c_in == c_out
        self.down = nn.Identity() if same else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(self.bn1(x))) + self.down(x)
        return F.relu(self.conv2(self.bn2(y))) + y


class Network(nn.Module):
    """Float stem, two blocks, float classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(Block(c, c, 16, 1), Block(c, 24, 8, 2))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
