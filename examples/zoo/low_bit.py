"""The frame that families of k-bit, ternary and multi-base networks share: what differs from paper to paper is the activation and the convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LowBitNetwork", "SignActivation", "TernaryConv"]


class SignActivation(nn.Module):
    """+1 from 0 on, else -1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)


class TernaryConv(nn.Conv2d):
    """Weights -a, 0, +a a filter, by the threshold 0.7 E|W| (Li, Liu: Ternary Weight Networks, 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        d = 0.7 * w.abs().mean((1, 2, 3), keepdim=True)
        m = (w.abs() > d).float()
        a = (m * w.abs()).sum((1, 2, 3), keepdim=True) / m.sum((1, 2, 3), keepdim=True)
        return F.conv2d(x, a * torch.sign(w) * m, self.bias, self.stride, self.padding)


class LowBitNetwork(nn.Module):
    """Float first and last layer, as these papers keep them; between them two blocks of activation -> convolution -> BatchNorm.

    Parameters
    ----------
    activation : callable
        Makes a module that quantizes a feature map.
    convolution : callable
        Makes a module with the arguments of ``nn.Conv2d``, which quantizes its weights.
    c : int
        Channels of the first block; the second has twice as many and stride 2.
    """

    def __init__(self, activation: Callable[[], nn.Module], convolution: Callable[..., nn.Module], c: int = 16):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.activation1, self.convolution1, self.norm1 = activation(), convolution(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.activation2, self.convolution2 = activation(), convolution(c, 2 * c, 3, stride=2, padding=1, bias=False)
        self.norm2, self.classifier = nn.BatchNorm2d(2 * c), nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = self.norm1(self.convolution1(self.activation1(x)))
        x = self.norm2(self.convolution2(self.activation2(x)))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
