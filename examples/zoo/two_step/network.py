"""Two-step quantization: Wang et al.: Two-Step Quantization for Low-bit Neural Networks, CVPR 2018.

2-bit activation codes in even steps, ternary weights with a scale a filter.
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class HwgqAct(nn.Module):
    """Quantizes a feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.538 * ((x > 0.269).float() + (x > 0.807).float() + (x > 1.345).float())


class TwnConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        d = 0.7 * w.abs().mean((1, 2, 3), keepdim=True)
        m = (w.abs() > d).float()
        a = (m * w.abs()).sum((1, 2, 3), keepdim=True) / m.sum((1, 2, 3), keepdim=True)
        return F.conv2d(x, a * torch.sign(w) * m, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(HwgqAct, TwnConv), (1, 3, 16, 16))
