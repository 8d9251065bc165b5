"""HORQ: Li et al.: Performance Guaranteed Network Acceleration via High-Order Residual Quantization, ICCV 2017.

Order two: signs of the input and of its residual, scales E|r| computed at run time (a sample, where the paper takes a window).
First and last layer are float. No public code of the authors was found: it follows the paper, but for that scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class HorqConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        w = torch.sign(self.weight)
        al = self.weight.abs().mean((1, 2, 3)).view(1, -1, 1, 1)
        out = 0
        r = x
        for _ in range(2):
            b = r.abs().mean((1, 2, 3), keepdim=True)
            h = torch.sign(r)
            out = out + b * F.conv2d(h, w, None, self.stride, self.padding) * al
            r = r - b * h
        return out


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(nn.Identity, HorqConv), (1, 3, 16, 16))
