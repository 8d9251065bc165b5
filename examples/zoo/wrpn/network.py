"""WRPN: Mishra et al.: WRPN: Wide Reduced-Precision Networks, ICLR 2018.

4-bit activations and 4-bit weights, both clipped before the rounding; the widening itself is a number of channels.
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class WrpnAct(nn.Module):
    """Quantizes a feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(torch.clamp(x, 0, 1) * 15) / 15


class WrpnConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        w = torch.round(torch.clamp(self.weight, -1, 1) * 7) / 7
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(WrpnAct, WrpnConv), (1, 3, 16, 16))
