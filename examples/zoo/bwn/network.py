"""BWN (Binary-Weight-Network): Rastegari, Ordonez, Redmon, Farhadi: XNOR-Net, ECCV 2016 (arXiv 1603.05279), section 3.1.

Weights are -a and +a, a the mean magnitude of each filter; activations stay real. Checked against the authors' Torch code (allenai/XNOR-Net,
``models/alexnet.lua`` and ``util.lua``): convolution with bias -> BatchNorm (epsilon 1e-3) -> ReLU, pools of 3x3 by 2; before the sign, each
position of a filter loses its mean over the input channels and is clipped to -1 .. 1; the first and the last layer are real.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn


class BinaryWeightConv(nn.Conv2d):
    """Mean-centred, clipped, signed, times the mean magnitude."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean(1, keepdim=True)).clamp(-1.0, 1.0)
        scale = w.abs().sum((1, 2, 3), keepdim=True) / w[0].numel()
        return F.conv2d(x, torch.sign(w) * scale, self.bias, self.stride, self.padding)


def block(conv: nn.Conv2d) -> nn.Sequential:
    """Convolution -> BatchNorm -> ReLU."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels, eps=1e-3), nn.ReLU(inplace=True))


class Network(nn.Module):
    """AlexNet's order, narrower: dense layers are convolutions too."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.features = nn.Sequential(
            block(nn.Conv2d(3, c, 5, stride=2, padding=2)),
            nn.MaxPool2d(3, 2),
            block(BinaryWeightConv(c, 24, 5, padding=2)),
            block(BinaryWeightConv(24, 32, 3, padding=1)),
            nn.MaxPool2d(3, 2),
            block(BinaryWeightConv(32, 32, 3)),
            nn.Conv2d(32, 10, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.features(x).view(-1, 10), dim=1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 32, 32))
