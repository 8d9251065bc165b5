"""ReBNet: Ghasemzadeh et al.: ReBNet: Residual Binarized Neural Network, FCCM 2018.

Two levels of residual signs with learned scales; binary weights.
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class RebAct(nn.Module):
    """Quantizes a feature map."""

    def __init__(self):
        super().__init__()
        self.g = nn.Parameter(torch.tensor([0.8, 0.33]))

    def forward(self, x: Tensor) -> Tensor:
        r, out = x, 0
        for level in range(2):
            e = torch.where(r >= 0, 1.0, -1.0) * torch.abs(self.g[level])
            out = out + e
            r = r - e
        return out


class BwnConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, torch.sign(self.weight) * a, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(RebAct, BwnConv), (1, 3, 16, 16))
