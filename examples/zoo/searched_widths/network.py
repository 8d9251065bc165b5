"""Searched widths: Shen, Han, Xu, Wang: Searching for Accurate Binary Neural Architectures, ICCV Workshops 2019 (arXiv 1909.07378).

An evolutionary search gives each layer of a DoReFa-style binary network a width of its own, so channels come in numbers that fit no word: here
19, 37, 83 and 13. Faithful to the paper's setting: VGG-small, binary weights with one scale a layer, first and last layer real, BatchNorm in
front of the binarization. Activations are 0 and 1, by DoReFa-Net's rounding to one bit, which the paper builds on. No public code of the
authors was found; the quantizers were checked against tensorpack/tensorpack (``examples/DoReFa-Net/dorefa.py``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn


class BinaryConv(nn.Conv2d):
    """Input rounded to 0 and 1, weights signed, times their mean magnitude."""

    def forward(self, x: Tensor) -> Tensor:
        bits = torch.round(torch.clamp(x, 0, 1))
        scale = self.weight.abs().mean()
        return F.conv2d(bits, torch.sign(self.weight / scale) * scale, None, self.stride, self.padding)


class Network(nn.Module):
    """VGG-small's order, with odd widths."""

    def __init__(self, widths: tuple[int, ...] = (19, 37, 83, 13)):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])
        self.convs = nn.ModuleList(BinaryConv(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.classifier = nn.Linear(widths[-1] * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            x = norm(F.max_pool2d(x, 2) if i else x)
        return self.classifier(F.relu(x).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
