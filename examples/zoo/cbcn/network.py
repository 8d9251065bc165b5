"""CBCN: Liu, Ding, Xia, Zhang, Gu, Liu, Ji, Doermann: Circulant Binary Convolutional Networks, CVPR 2019 (arXiv 1910.10853).

Faithful: each learned 3x3 filter is turned by 0, 90, 180, 270 degrees (its ring of eight weights moves by two places, the middle stays), the
four turned filters make four output channels, and input channels turn along; the rotation is in the graph, a gather before the sign.
Block order sign -> convolution -> BatchNorm with a shortcut, as in Bi-Real Net.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, polynomial_sign, sign_function
from torch import Tensor, nn

RING = [0, 1, 2, 5, 8, 7, 6, 3]


class CirculantConv(nn.Module):
    """Four output channels a learned filter."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out // 4, c_in, 9) * 0.1)
        turns = torch.arange(9).repeat(4, 1)
        for quarter in range(4):
            for place, tap in enumerate(RING):
                turns[quarter, tap] = RING[(place - 2 * quarter) % 8]
        self.register_buffer("turns", turns.reshape(-1))

    def forward(self, x: Tensor) -> Tensor:
        learned, c_in, _ = self.weight.shape
        turned = self.weight.index_select(2, self.turns).view(learned, c_in, 4, 3, 3).transpose(1, 2).reshape(4 * learned, c_in, 3, 3)
        return F.conv2d(polynomial_sign(x), sign_function(turned), padding=1)


class Network(nn.Module):
    """Float stem, three circulant convolutions with shortcuts, float classifier."""

    def __init__(self, c: int = 24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), nn.PReLU(c))
        self.convs, self.norms = nn.ModuleList(CirculantConv(c, c) for _ in range(3)), nn.ModuleList(nn.BatchNorm2d(c) for _ in range(3))
        self.fc = nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms):
            x = norm(conv(x)) + x
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 32, 32))
