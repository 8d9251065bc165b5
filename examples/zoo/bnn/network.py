"""BNN: Courbariaux, Hubara, Soudry, El-Yaniv, Bengio: Binarized Neural Networks, NeurIPS 2016 (arXiv 1602.02830).

The VGG-like CIFAR-10 network of the paper and of the authors' Torch code (also BNN.pytorch), narrower. Faithful: the first layer takes
the real image; every weight is binarized, the first and the last layer's too; block order convolution -> MaxPool -> BatchNorm -> hardtanh,
binarized by the next layer on its input; the classifier is dense layers with BatchNorm1d, the last one without affine.
"""

from __future__ import annotations

import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class BinarizeConv2d(nn.Conv2d):
    """Binarizes its input, unless that is the image of 3 channels, and its weights."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) != 3:
            x = sign_function(x)
        return F.conv2d(x, sign_function(self.weight), self.bias, self.stride, self.padding)


class BinarizeLinear(nn.Linear):
    """Binarizes its input and its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_function(x), sign_function(self.weight), self.bias)


def block(c_in: int, c_out: int, *, pool: bool) -> list[nn.Module]:
    """Return convolution, pool if asked for, BatchNorm, hardtanh."""
    pooling = [nn.MaxPool2d(2, 2)] if pool else []
    return [BinarizeConv2d(c_in, c_out, 3, padding=1), *pooling, nn.BatchNorm2d(c_out), nn.Hardtanh(inplace=True)]


class VGG(nn.Module):
    """Six convolutions in pairs, three dense layers."""

    def __init__(self, c: int = 16, dense: int = 48, size: int = 16):
        super().__init__()
        widths = (3, c, c, c, c, 24, 24)
        self.flat = 24 * (size // 8) ** 2
        self.features = nn.Sequential(*(m for i in range(6) for m in block(widths[i], widths[i + 1], pool=i % 2 == 1)))
        self.classifier = nn.Sequential(
            BinarizeLinear(self.flat, dense), nn.BatchNorm1d(dense), nn.Hardtanh(inplace=True),
            BinarizeLinear(dense, dense), nn.BatchNorm1d(dense), nn.Hardtanh(inplace=True),
            BinarizeLinear(dense, 10), nn.BatchNorm1d(10, affine=False), nn.LogSoftmax(dim=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(-1, self.flat))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(VGG(), (1, 3, 16, 16))
