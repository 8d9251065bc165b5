"""ReBNet: Ghasemzadeh, Samragh, Koushanfar: ReBNet: Residual Binarized Neural Network, FCCM 2018 (arXiv 1711.01243).

Checked against mohaghasemzadeh/ReBNet (Keras: training-software/binarization_utils.py; spelled in PyTorch here): two levels of residual signs, each of the
clipped residual, sign(clip(r)) by the residue clip(r) + (sign - clip(r)), times |scale|; weights the same sign times one |gamma| a layer; convolution ->
BatchNorm -> residual signs. Their first layer is binary as well; here the first and the last are float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from low_bit import LowBitNetwork
from torch import Tensor, nn


def binarize(x: Tensor) -> Tensor:
    """Return the sign of the clipped number, by its residue."""
    clipped = torch.clamp(x, -1, 1)
    return clipped + (torch.sign(clipped) - clipped).detach()


class ResidualSign(nn.Module):
    """Two levels of signs."""

    def __init__(self):
        super().__init__()
        self.means = nn.ParameterList([torch.tensor(0.8), torch.tensor(0.33)])

    def forward(self, x: Tensor) -> Tensor:
        resid, out_bin = x, 0
        for mean in self.means:
            out = binarize(resid) * torch.abs(mean)
            out_bin = out_bin + out
            resid = resid - out
        return out_bin


class BinaryConv(nn.Conv2d):
    """Quantizes its weights."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gamma = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, torch.abs(self.gamma) * binarize(self.weight), self.bias, self.stride, self.padding)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(ResidualSign, BinaryConv), (1, 3, 16, 16))
