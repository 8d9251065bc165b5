"""TrueNorth (Eedn): Esser et al.: Convolutional networks for fast, energy-efficient neuromorphic computing, PNAS 2016.

Neurons 0 or 1 (x >= 0), weights -1, 0, +1, grouped convolutions; BatchNorm becomes threshold and leak.
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class TnAct(nn.Module):
    """Quantizes a feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return (x >= 0).float()


class TnConv(nn.Conv2d):
    """Quantizes its weights."""

    def __init__(self, *a, **k):
        super().__init__(*a, **k, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        w = torch.round(torch.clamp(self.weight * 8, -1, 1))
        return F.conv2d(x, w, None, self.stride, self.padding, groups=2)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(TnAct, TnConv), (1, 3, 16, 16))
