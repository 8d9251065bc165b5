"""TTQ: Zhu et al.: Trained Ternary Quantization, ICLR 2017.

Weights -wn, 0, +wp with learned wn and wp a layer, threshold 0.05 max|W|; signs as activations. First and last layer are float. Compared with
czhu95/ternarynet (examples/Ternary-Net/ternary.py): the same three levels by the same threshold; what differs is that the activations there are real (ReLU),
and the weights are a product of masks there, a difference here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork, SignActivation
from torch import Tensor, nn


class TtqConv(nn.Conv2d):
    """Quantizes its weights."""

    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.wp = nn.Parameter(torch.tensor(0.1137))
        self.wn = nn.Parameter(torch.tensor(0.0713))

    def forward(self, x: Tensor) -> Tensor:
        d = 0.05 * self.weight.abs().max()
        p, n = (self.weight > d).float(), (self.weight < -d).float()
        return F.conv2d(x, p * self.wp - n * self.wn, self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(SignActivation, TtqConv), (1, 3, 16, 16))
