"""Bop: Helwegen, Widdicombe, Geiger, Liu, Cheng, Nusselder: Latent Weights Do Not Exist, NeurIPS 2019 (arXiv 1906.02107).

Stands for the methods that change training alone: weights are +-1 and nothing else, so constants of +-1 reach the file. Checked against
plumerai/rethinking-bnn-optimization (bnn_optimization/models/binarynet.py, Keras; spelled in PyTorch here): the BinaryNet shape, narrower; the first
convolution takes the real image, without padding, with weights of +-1; a layer signs its input, 0 as +1; convolution -> MaxPool -> BatchNorm; three dense
layers; softmax. Their BatchNorm has no scale; here it has one of either sign.
"""

from __future__ import annotations

import torch
from layers import fit, where_sign
from torch import Tensor, nn


class Network(nn.Module):
    """Four convolutions, three dense layers."""

    def __init__(self, c: int = 16):
        super().__init__()
        widths = (3, c, 24, 24, 24)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=0 if a == 3 else 1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        dense = (24 * 9, 32, 32, 10)
        self.dense = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(dense, dense[1:]))
        self.dense_norms = nn.ModuleList(nn.BatchNorm1d(b) for b in dense[1:])
        with torch.no_grad():
            for layer in (*self.convs, *self.dense):
                layer.weight.copy_(where_sign(layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(where_sign(x) if i else x)
            x = norm(nn.functional.max_pool2d(x, 2) if i % 2 else x)
        x = torch.flatten(x, 1)
        for dense, norm in zip(self.dense, self.dense_norms):
            x = norm(dense(where_sign(x)))
        return x.softmax(1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
