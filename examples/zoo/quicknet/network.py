"""QuickNet in PyTorch: Bannink, Bakhtiari, Hillier, Geiger, de Bruin, Overweel, Neeven, Helwegen: Larq Compute Engine, MLSys 2021 (arXiv 2011.09398).

Blocks of sign -> binary 3x3 padded with +1 -> ReLU -> BatchNorm -> shortcut; between sections ReLU -> MaxPool of stride 1 -> blur pool -> real
1x1 -> ReLU -> BatchNorm; a stem of a strided 3x3, a strided depthwise 3x3 and a 1x1. Checked against hpi-xnor/bitorch (``models/quicknet.py``,
``layers/qconv2d.py``, ``common_layers.py``), the public PyTorch version, whose spellings these are: explicit pads, one-sided in the stem, the
sign's zero repaired by a choice, the padding of +1 in front of an unpadded convolution. The larq version is the folder ``larq_quicknet``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import clamped_sign, fit
from torch import Tensor, nn


class OnePaddedConv(nn.Conv2d):
    """Binary input and weights; outside the image are ones."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(clamped_sign(x), (1, 1, 1, 1), mode="constant", value=1.0)
        return F.conv2d(x, clamped_sign(self.weight))


class ResidualBlock(nn.Sequential):
    """Binary convolution -> ReLU -> BatchNorm, with a shortcut."""

    def __init__(self, c: int):
        super().__init__(OnePaddedConv(c, c, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


def transition(c_in: int, c_out: int) -> nn.Sequential:
    """Return what halves the image between two sections."""
    blur = nn.Conv2d(c_in, c_in, 3, stride=2, groups=c_in, bias=False)
    row = torch.tensor([1.0, 2.0, 1.0])
    kernel = row[:, None] * row[None, :]
    blur.weight = nn.Parameter((kernel / kernel.sum())[None, None].repeat(c_in, 1, 1, 1), requires_grad=False)
    conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    return nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, stride=1), nn.ZeroPad2d(1), blur, conv, nn.ReLU(), nn.BatchNorm2d(c_out))


class Network(nn.Module):
    """Stem, two sections of two blocks, classifier."""

    def __init__(self, c: int = 16, d: int = 24):
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, c // 4, 3, stride=2, bias=False), nn.BatchNorm2d(c // 4), nn.ReLU(),
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(c // 4, c // 4, 3, stride=2, groups=c // 4, bias=False), nn.BatchNorm2d(c // 4),
            nn.Conv2d(c // 4, c, 1, bias=False), nn.BatchNorm2d(c),
        )  # fmt: skip
        self.body = nn.Sequential(ResidualBlock(c), ResidualBlock(c), transition(c, d), ResidualBlock(d), ResidualBlock(d))
        self.top = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(d, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.body(self.stem(x)))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 64, 64))
