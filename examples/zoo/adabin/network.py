"""AdaBin: Tu et al.: AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets, ECCV 2022.

Activations take b - a and b + a (learned, one pair a layer), weights the mean and the deviation of each filter; the layer pads with a
real 0, which is neither. Without the Maxout.
First and last layer are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class AdaAct(nn.Module):
    """Quantizes a feature map."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.9))
        self.b = nn.Parameter(torch.tensor(0.2))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.clamp((x - self.b) / self.a, -1, 1)
        return self.a * torch.where(y >= 0, 1.0, -1.0) + self.b


class AdaConv(nn.Conv2d):
    """Quantizes its weights."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        b = w.mean((1, 2, 3), keepdim=True)
        s = w.std((1, 2, 3), keepdim=True)
        w = (w - b) / s
        a = torch.sqrt((w**2).mean((1, 2, 3), keepdim=True)) * s
        return F.conv2d(x, torch.where(w >= 0, 1.0, -1.0) * a + b, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(AdaAct, AdaConv), (1, 3, 16, 16))
