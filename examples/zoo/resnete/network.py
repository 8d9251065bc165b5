"""ResNetE: Bethge, Yang, Bornstein, Meinel: Back to Simplicity: How to Train Accurate BNNs from Scratch?, 2019 (arXiv 1906.08637).

Narrower. Checked against hpi-xnor/bitorch (models/resnet_e.py, layers/qconv2d.py) and hpi-xnor/BMXNet-v2-examples (binary_models/resnet_e.py): no scales and
no ReLU in the blocks; sign with 0 as +1 -> padding with -1 -> convolution -> BatchNorm with a shortcut round every convolution; the downsampling branch is
AvgPool -> real-valued 1x1 convolution -> BatchNorm; a BatchNorm without scale on the image, another behind the stem; ReLU before the pool.
"""

from __future__ import annotations

from bitorch_layers import QConv2d, initial_layers
from layers import fit
from torch import Tensor, nn


class Block(nn.Module):
    """One binary convolution with its shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(QConv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1), nn.BatchNorm2d(c_out))
        self.downsample = None
        if c_in != c_out:
            self.downsample = nn.Sequential(nn.AvgPool2d(2, stride=stride), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        return self.body(x) + residual


class ResNetE(nn.Module):
    """Stem of one float convolution, two stages."""

    def __init__(self, c: int = 16):
        super().__init__()
        stem = [nn.BatchNorm2d(3, affine=False, eps=2e-5), *initial_layers("thumbnail", c), nn.BatchNorm2d(c)]
        body = [Block(c, c, 1), Block(c, c, 1), Block(c, 2 * c, 2), Block(2 * c, 2 * c, 1)]
        self.features = nn.Sequential(*stem, *body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.output = nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.features(x))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(ResNetE(), (1, 3, 16, 16))
