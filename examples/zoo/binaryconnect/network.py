"""BinaryConnect: Courbariaux, Bengio, David: Training Deep Neural Networks with binary weights, NeurIPS 2015 (arXiv 1511.00363).

Weights are +-1, activations real: convolution -> BatchNorm -> ReLU, pool after every second one, dense layers behind. Faithful: the weights
of every layer are binarized in the graph by sign(clip(W, -1, 1)).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import clamped_sign, fit
from torch import Tensor, nn


class BinaryConv(nn.Conv2d):
    """Binary weights only."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, clamped_sign(torch.clamp(self.weight, -1, 1)), self.bias, self.stride, self.padding)


class BinaryLinear(nn.Linear):
    """Binary weights only."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, clamped_sign(torch.clamp(self.weight, -1, 1)), self.bias)


class Network(nn.Module):
    """Four convolutions, two dense layers."""

    def __init__(self, c: int = 16):
        super().__init__()
        widths = (3, c, c, 24, 24)
        self.convs = nn.ModuleList(BinaryConv(a, b, 3, padding=1) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.dense, self.norm, self.last = BinaryLinear(24 * 16, 24), nn.BatchNorm1d(24), BinaryLinear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            x = F.relu(norm(F.max_pool2d(x, 2) if i % 2 else x))
        return self.last(F.relu(self.norm(self.dense(x.view(x.size(0), -1)))))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
