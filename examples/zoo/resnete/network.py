"""ResNetE: Bethge, Yang, Bornstein, Meinel: Back to Simplicity: How to Train Accurate BNNs from Scratch?, 2019 (arXiv 1906.08637).

Faithful: no scales and no ReLU; sign -> convolution -> BatchNorm with a shortcut round every convolution; the downsampling branch is
AvgPool -> full-precision 1x1 convolution -> BatchNorm; sign maps 0 to +1, and weights are constants of +-1 as BMXNet stores them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, where_sign
from torch import Tensor, nn


class Block(nn.Module):
    """One binary convolution with its shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        with torch.no_grad():
            self.conv.weight.sign_()
        same = stride == 1 and c_in == c_out
        self.down = (
            nn.Identity() if same else nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(where_sign(x))) + self.down(x)


class ResNetE(nn.Module):
    """Stem of one float convolution, two stages, BatchNorm and ReLU before the pool."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.body = nn.Sequential(Block(c, c, 1), Block(c, c, 1), Block(c, 2 * c, 2), Block(2 * c, 2 * c, 1))
        self.bn, self.fc = nn.BatchNorm2d(2 * c), nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.body(self.stem(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(ResNetE(), (1, 3, 16, 16))
