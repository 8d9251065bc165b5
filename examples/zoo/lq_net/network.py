"""LQ-Nets: Zhang et al.: LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018.

2-bit weights and activations as sums of two learned bases, so their levels are uneven; a chain of comparisons chooses the level.
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class LqAct(nn.Module):
    """Quantizes a feature map."""

    def __init__(self):
        super().__init__()
        v = [0.45, 0.83]
        lv = [0.0, v[0], v[1], v[0] + v[1]]
        self.register_buffer("levels", torch.tensor(lv))
        self.register_buffer("t", torch.tensor([(a + b) / 2 for a, b in zip(lv, lv[1:])]))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for i in range(3):
            y = torch.where(x > self.t[i], self.levels[i + 1], y)
        return y


class LqConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        s = w.abs().mean((1, 2, 3), keepdim=True)
        v1, v2 = 0.5 * s, 0.85 * s
        q = torch.zeros_like(w) - (v1 + v2)
        q = torch.where(w > -v2, v1 - v2, q)
        q = torch.where(w > 0, v2 - v1, q)
        q = torch.where(w > v2, v1 + v2, q)
        return F.conv2d(x, q, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(LqAct, LqConv), (1, 3, 16, 16))
