"""XNOR-Net with K: Rastegari, Ordonez, Redmon, Farhadi: XNOR-Net, ECCV 2016 (arXiv 1603.05279), with the run-time scale of its section 3.2.

AlexNet's shape, narrower, as the paper's equation 11: block order BatchNorm -> sign -> convolution -> ReLU -> pool; first and last layer float; weights
mean(|W|) sign(W) a filter; K = box filter of mean(|x|) over channels, a positive scale a pixel, computed at run time; in the dense layer it is one number a
sample. No public code of the authors computes K (allenai/XNOR-Net was read: `xnor_net` follows it), so this network follows the paper alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class BinActive(nn.Module):
    """Returns the signs and the mean magnitude over channels."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.mean(x.abs(), 1, keepdim=True)
        return sign_function(x), mean


class BinConv(nn.Module):
    """BatchNorm, sign, convolution times alpha and K, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int, padding: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(c_in, eps=1e-4, momentum=0.1, affine=True)
        self.active, self.conv = BinActive(), nn.Conv2d(c_in, c_out, kernel, padding=padding)
        self.register_buffer("box", torch.full((1, 1, kernel, kernel), 1.0 / kernel**2))
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        x, mean = self.active(self.bn(x))
        w = self.conv.weight
        alpha = w.norm(1, 3, keepdim=True).sum(2, keepdim=True).sum(1, keepdim=True).div(w[0].nelement())
        y = F.conv2d(x, w.sign() * alpha.expand(w.size()), self.conv.bias, padding=self.padding)
        return F.relu(y * F.conv2d(mean, self.box, padding=self.padding))


class BinLinear(nn.Module):
    """The same with a dense layer."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.bn, self.active, self.linear = nn.BatchNorm1d(c_in, eps=1e-4), BinActive(), nn.Linear(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        x, mean = self.active(self.bn(x))
        w = self.linear.weight
        y = F.linear(x, w.sign() * w.abs().mean(1, keepdim=True), self.linear.bias)
        return F.relu(y * mean)


class AlexNet(nn.Module):
    """Float 5x5, three binary convolutions, a binary dense layer, a float one."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, c, 5, padding=2), nn.BatchNorm2d(c, eps=1e-4), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2),
            BinConv(c, 24, 5, 2), nn.MaxPool2d(3, stride=2),
            BinConv(24, 24, 3, 1), BinConv(24, 16, 3, 1), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.classifier = nn.Sequential(BinLinear(16 * 9, 32), nn.BatchNorm1d(32), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), 16 * 9))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(AlexNet(), (1, 3, 32, 32))
