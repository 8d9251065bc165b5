"""BWHN: Hu et al.: From Hashing to CNNs: Training Binary Weight Networks via Hashing, AAAI 2018.

Binary weights with a scale a filter; activations stay float (ReLU).
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


class BwnConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, torch.sign(self.weight) * a, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(Relu, BwnConv), (1, 3, 16, 16))
