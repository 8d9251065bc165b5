"""TWN: Li, Liu: Ternary Weight Networks, 2016.

Weights -a, 0, +a a filter, by the threshold 0.7 E|W|, with signs as activations (larq's ste_tern beside ste_sign).
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class SignAct(nn.Module):
    """Quantizes a feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)


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
    return fit(LowBitNetwork(SignAct, TwnConv), (1, 3, 16, 16))
