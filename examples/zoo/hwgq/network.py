"""HWGQ-Net: Cai et al.: Deep Learning with Low Precision by Half-wave Gaussian Quantization, CVPR 2017.

2-bit half-wave activations in steps of 0.538 as a sum of three comparisons; binary weights with E|W| a filter.
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


class BwnConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, torch.sign(self.weight) * a, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(HwgqAct, BwnConv), (1, 3, 16, 16))
