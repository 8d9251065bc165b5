"""Bi-Real Net: Liu, Wu, Luo, Yang, Liu, Cheng: Bi-Real Net, ECCV 2018 (arXiv 1808.00278).

ResNet-18's shape, narrower. Checked against liuzechun/Bi-Real-net (pytorch_implementation/BiReal18_34/birealnet.py): sign with the polynomial
estimator's residue, HardBinaryConv on a flat column of latent weights, scaled and with the clip's residue, BatchNorm, then the shortcut round every
single convolution; strided shortcuts are AvgPool -> float 1x1 -> BatchNorm; the 7x7 stem with MaxPool is float.
"""

from __future__ import annotations

from layers import HardBinaryConv, fit, polynomial_sign
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """sign, convolution, BatchNorm, shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.binary_conv, self.bn1 = HardBinaryConv(c_in, c_out, stride=stride), nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(kernel_size=2, stride=stride), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.binary_conv(polynomial_sign(x)))
        out += residual
        return out


class BiRealNet(nn.Module):
    """Stem, two stages of two blocks, classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, c, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(c)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(c, c), BasicBlock(c, c))
        self.layer2 = nn.Sequential(BasicBlock(c, 2 * c, 2), BasicBlock(2 * c, 2 * c))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(x.view(x.size(0), -1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(BiRealNet(), (1, 3, 64, 64))
