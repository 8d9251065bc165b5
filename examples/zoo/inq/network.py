"""INQ: Zhou et al.: Incremental Network Quantization, ICLR 2017.

Weights are 0 or signed powers of two; activations stay float (ReLU).
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class Relu(nn.ReLU):
    """The float activation."""


class InqConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        p = torch.round(torch.log2(w.abs() / 0.75 * 1)).clamp(-6, -2)
        return F.conv2d(x, torch.sign(w) * torch.pow(2.0, p) * (w.abs() > 2.0**-7).float(), None, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(Relu, InqConv), (1, 3, 16, 16))
