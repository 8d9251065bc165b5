"""DoReFa-Net: Zhou et al.: DoReFa-Net, 2016.

2-bit activations of clip(x, 0, 1), 2-bit weights of tanh(W), as the paper's equations 9 and 11.
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


def rnd(x: Tensor, k: int) -> Tensor:
    """Round numbers of 0 .. 1 to k bits."""
    n = float(2**k - 1)
    return torch.round(x * n) / n


class DorefaAct(nn.Module):
    """Quantizes a feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return rnd(torch.clamp(x, 0, 1), 2)


class DorefaConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        w = torch.tanh(self.weight)
        m = torch.max(torch.abs(w)).detach()
        w = m * (2 * rnd(w / 2 / m + 0.5, 2) - 1)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(DorefaAct, DorefaConv), (1, 3, 16, 16))
