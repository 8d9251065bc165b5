"""Self-binarizing networks: Lahoud, Achanta, Marquez-Neila, Susstrunk: Self-Binarizing Networks, 2019 (arXiv 1902.00730).

Weights and activations are tanh(v x), v growing until tanh is the sign. What is left is a plain sign network, and the paper's binary batch
normalization: without scale, BatchNorm before the sign is the comparison of the sum with a number of the channel. Written both ways it can be
met: tanh with a v so large that it is +-1 in float32 (weights), and sums compared with the number (activations). Convolution -> pool ->
comparison, as BinaryNet. No public code of the authors was found.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn

SHARP = 1e6


class BinaryBatchNorm(nn.BatchNorm2d):
    """Training: BatchNorm without scale, then tanh; afterwards a comparison with the channel's mean less its offset."""

    def __init__(self, c: int):
        super().__init__(c, affine=False)
        self.beta = nn.Parameter(torch.randn(c) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return torch.tanh(SHARP * (super().forward(x) + self.beta.view(1, -1, 1, 1)))
        threshold = self.running_mean - self.beta * torch.sqrt(self.running_var + self.eps)
        return (x > threshold.view(1, -1, 1, 1)).float() * 2 - 1


class SharpConv(nn.Conv2d):
    """Weights by a tanh that has become the sign."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, torch.tanh(SHARP * self.weight), None, self.stride, self.padding)


class Network(nn.Module):
    """All convolutions with two-valued weights, the first one of a real image."""

    def __init__(self, c: int = 16):
        super().__init__()
        widths = (3, c, 24, 24, 32)
        self.convs = nn.ModuleList(SharpConv(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(BinaryBatchNorm(b) for b in widths[1:])
        self.last, self.last_norm = SharpConv(32, 10, 4, bias=False), nn.BatchNorm2d(10, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            x = norm(F.max_pool2d(x, 2) if i % 2 else x)
        return F.softmax(self.last_norm(self.last(x)).flatten(1), dim=1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
