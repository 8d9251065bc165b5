"""Bop: Helwegen, Widdicombe, Geiger, Liu, Cheng, Nusselder: Latent Weights Do Not Exist, NeurIPS 2019 (arXiv 1906.02107).

Stands for the methods that change training alone (Bop, FDA-BNN, self-binarizing networks): weights are +-1 and nothing else, so constants
of +-1 reach the file. Faithful: the BinaryNet shape, convolution -> MaxPool -> BatchNorm -> sign, sign(0) = +1.
"""

from __future__ import annotations

import torch
from layers import fit, where_sign
from torch import Tensor, nn


class Network(nn.Module):
    """Float first layer; three binary convolutions and a binary dense layer; binary classifier with BatchNorm."""

    def __init__(self, c: int = 16):
        super().__init__()
        widths = (3, c, 24, 24, 24)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.dense, self.norm = nn.Linear(24 * 16, 32, bias=False), nn.BatchNorm1d(32)
        self.last, self.last_norm = nn.Linear(32, 10, bias=False), nn.BatchNorm1d(10)
        with torch.no_grad():
            for layer in (*self.convs[1:], self.dense, self.last):
                layer.weight.copy_(where_sign(layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            x = where_sign(norm(nn.functional.max_pool2d(x, 2) if i % 2 else x))
        x = where_sign(self.norm(self.dense(torch.flatten(x, 1))))
        return self.last_norm(self.last(x)).softmax(1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
