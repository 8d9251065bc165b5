"""BinaryConnect: Courbariaux, Bengio, David: Training Deep Neural Networks with binary weights, NeurIPS 2015 (arXiv 1511.00363).

Checked against MatthieuCourbariaux/BinaryConnect (Theano: binary_connect.py, cifar10.py; spelled in PyTorch here): weights are +-1 in every layer, spelled
round(clip((W + 1) / 2, 0, 1)) and a choice; activations are real: convolution -> MaxPool in every second -> BatchNorm -> ReLU; dense layers behind, BatchNorm
behind the last one too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn


def binarization(weight: Tensor) -> Tensor:
    """Return +-1, the deterministic variant, by a hard sigmoid and its rounding."""
    return torch.where(torch.round(torch.clamp((weight + 1.0) / 2.0, 0, 1)) != 0, 1.0, -1.0)


class BinaryConv(nn.Conv2d):
    """Binary weights only."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, binarization(self.weight), self.bias, self.stride, self.padding)


class BinaryLinear(nn.Linear):
    """Binary weights only."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, binarization(self.weight), self.bias)


class Network(nn.Module):
    """Four convolutions, two dense layers."""

    def __init__(self, c: int = 16):
        super().__init__()
        widths = (3, c, c, 24, 24)
        self.convs = nn.ModuleList(BinaryConv(a, b, 3, padding=1) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.dense, self.norm = BinaryLinear(24 * 16, 24), nn.BatchNorm1d(24)
        self.last, self.last_norm = BinaryLinear(24, 10), nn.BatchNorm1d(10)

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            x = F.relu(norm(F.max_pool2d(x, 2) if i % 2 else x))
        return self.last_norm(self.last(F.relu(self.norm(self.dense(x.view(x.size(0), -1))))))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
