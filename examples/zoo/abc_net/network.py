"""ABC-Net: Lin et al.: Towards Accurate Binary Convolutional Neural Network, NeurIPS 2017.

Three shifted activation bases by three weight bases sign(W - mean + u std), each pair a convolution, sums with learned scales.
First and last layer are float. No public code of the authors was found: it follows the paper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


class AbcConv(nn.Conv2d):
    """Quantizes its weights."""

    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.v = nn.Parameter(torch.tensor([-0.3, 0.0, 0.35]))
        self.beta = nn.Parameter(torch.tensor([0.4, 0.5, 0.3]))
        self.al = nn.Parameter(torch.tensor([0.05, 0.08, 0.06]))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        mean, std = w.mean(), w.std()
        B = [torch.sign(w - mean + u * std) for u in (-1.0, 0.0, 1.0)]
        out = 0
        for n in range(3):
            h = torch.where(torch.clamp(x + self.v[n], 0, 1) >= 0.5, 1.0, -1.0)
            out = out + self.beta[n] * sum(self.al[m] * F.conv2d(h, B[m], None, self.stride, self.padding) for m in range(3))
        return out


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(nn.Identity, AbcConv), (1, 3, 16, 16))
