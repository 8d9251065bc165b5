"""LQ-Nets: Zhang, Yang, Ye, Hua: LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018 (arXiv 1807.10029).

Checked against microsoft/LQ-Nets (learned_quantization.py, TensorFlow; spelled in PyTorch here): 2-bit weights and activations are sums of two learned bases,
of a layer for activations, of a filter for weights, so that their levels are uneven; levels are a product of codes and bases, sorted, thresholds the means of
neighbours, all in the graph; a chain of `where` takes the level; the estimator leaves x - x + y, for activations of x below the largest level. Convolution ->
BatchNorm -> ReLU -> quantize; first and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


def sorted_levels(codes: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the levels, ascending, and the thresholds between them; shapes (4, n) and (3, n)."""
    levels = torch.matmul(codes, basis).sort(dim=0).values
    means = 0.5 * (torch.eye(4)[:3] + torch.eye(4)[1:])
    return levels, torch.matmul(means, levels)


class QuantizedActivation(nn.Module):
    """ReLU, then one of four levels: 0, v1, v2, v1 + v2."""

    def __init__(self):
        super().__init__()
        self.basis = nn.Parameter(torch.tensor([[0.45], [0.83]]))
        self.register_buffer("codes", torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        levels, thresholds = sorted_levels(self.codes, self.basis)
        y = torch.zeros_like(x)
        for i in range(3):
            y = torch.where(x > thresholds[i], torch.zeros_like(x) + levels[i + 1], y)
        clipped = torch.minimum(x, levels[3])
        return clipped + (-clipped).detach() + y.detach()


class QuantizedConv(nn.Conv2d):
    """Takes for each weight one of four levels +-v1 +-v2, bases of its filter."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        size = self.weight.detach().abs().mean((1, 2, 3))
        self.basis = nn.Parameter(torch.stack([0.5 * size, 0.85 * size]))
        self.register_buffer("codes", torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        levels, thresholds = (t.view(-1, w.size(0), 1, 1, 1) for t in sorted_levels(self.codes, self.basis))
        y = torch.zeros_like(w) + levels[0]
        for i in range(3):
            y = torch.where(w > thresholds[i], levels[i + 1], y)
        return F.conv2d(x, w + (-w).detach() + y.detach(), self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(QuantizedActivation, QuantizedConv), (1, 3, 10, 10))
