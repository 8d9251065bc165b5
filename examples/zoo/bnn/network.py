"""BNN: Courbariaux, Hubara, Soudry, El-Yaniv, Bengio: Binarized Neural Networks, NeurIPS 2016 (arXiv 1602.02830).

The VGG-like CIFAR-10 network, narrower. Checked against itayhubara/BinaryNet.pytorch (models/vgg_cifar10_binary.py, binarized_modules.py): the first
layer takes the real image; every weight is binarized, the first and the last layer's too; block order convolution -> MaxPool -> BatchNorm -> hardtanh;
a layer binarizes its own input, spelled x / 1 -> sign -> * 1; its bias is viewed, expanded and added behind the convolution; dense layers with
BatchNorm1d, the last one without affine, then LogSoftmax.
"""

from __future__ import annotations

import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


def binarized(x: Tensor) -> Tensor:
    """Divide by a scale, sign, multiply by it; the scale is 1 unless it is asked for."""
    scale = 1
    return sign_function(x.clone().div(scale)).mul(scale)


class BinarizeConv2d(nn.Conv2d):
    """Binarizes its input, unless that is the image of 3 channels, and its weights."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) != 3:
            x = binarized(x)
        out = F.conv2d(x, binarized(self.weight), None, self.stride, self.padding, self.dilation, self.groups)
        out += self.bias.view(1, -1, 1, 1).expand_as(out)
        return out


class BinarizeLinear(nn.Linear):
    """Binarizes its input and its weights."""

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(binarized(x), binarized(self.weight))
        out += self.bias.view(1, -1).expand_as(out)
        return out


def block(c_in: int, c_out: int, *, pool: bool) -> list[nn.Module]:
    """Return convolution, pool if asked for, BatchNorm, hardtanh."""
    pooling = [nn.MaxPool2d(kernel_size=2, stride=2)] if pool else []
    return [BinarizeConv2d(c_in, c_out, kernel_size=3, padding=1), *pooling, nn.BatchNorm2d(c_out), nn.Hardtanh(inplace=True)]


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
