"""DoReFa-Net: Zhou, Wu, Ni, Zhou, Wen, Zou: DoReFa-Net, 2016 (arXiv 1606.06160).

Checked against tensorpack/tensorpack (examples/DoReFa-Net/dorefa.py, svhn-digit-dorefa.py; the authors' own): 2-bit activations of clip(x, 0, 1); 2-bit
weights 2 * quantize(tanh(W) / max|tanh(W)| / 2 + 1/2) - 1, without a scale; convolution without bias -> BatchNorm (eps 1e-4) -> clip -> quantize; the last
feature map is clipped, not quantized; first and last layer are float, the first with a bias and no BatchNorm. Two layers of theirs, without their pools.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn


def quantize(x: Tensor, k: int) -> Tensor:
    """Round numbers of 0 .. 1 to k bits."""
    n = float(2**k - 1)
    return torch.round(x * n) / n


class QuantizedConv(nn.Conv2d):
    """Quantizes its weights to 2 bits."""

    def forward(self, x: Tensor) -> Tensor:
        w = torch.tanh(self.weight)
        w = w / torch.max(torch.abs(w)) * 0.5 + 0.5
        return F.conv2d(x, 2 * quantize(w, 2) - 1, self.bias, self.stride, self.padding)


class Network(nn.Module):
    """Float 5x5, two quantized convolutions, dense layer."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv0 = nn.Conv2d(3, c, 5, padding=2)
        self.conv1, self.bn1 = QuantizedConv(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c, eps=1e-4)
        self.conv2, self.bn2 = QuantizedConv(c, 2 * c, 3, padding=0, bias=False), nn.BatchNorm2d(2 * c, eps=1e-4)
        self.fc = nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = quantize(torch.clamp(F.max_pool2d(self.conv0(x), 2), 0.0, 1.0), 2)
        x = quantize(torch.clamp(self.bn1(self.conv1(x)), 0.0, 1.0), 2)
        x = torch.clamp(self.bn2(self.conv2(x)), 0.0, 1.0)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
