"""Binarizing MobileNet via Evolution-based Searching: Phan, Liu, Huynh, Savvides, Cheng, Shen, CVPR 2020 (arXiv 2005.06305).

Faithful: MobileNet's depthwise convolutions are replaced by binary grouped ones, a searched number of groups a layer (here 4, 2, 8), then a 1x1 binary
convolution; sign -> convolution -> BatchNorm -> PReLU with shortcuts. No public code of the authors was found: the shortcut where channels double (the input
twice) is a guess.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_detached, sign_function
from torch import Tensor, nn


class Layer(nn.Module):
    """Binary grouped convolution, BatchNorm, PReLU, shortcut where shapes agree."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in // groups, kernel, kernel) * 0.1)
        self.options = {"stride": stride, "padding": kernel // 2, "groups": groups}
        self.bn, self.act, self.double = nn.BatchNorm2d(c_out), nn.PReLU(c_out), c_out == 2 * c_in

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(F.conv2d(sign_detached(x), sign_function(self.weight), **self.options))
        x = F.avg_pool2d(x, 2, 2) if self.options["stride"] == 2 else x
        return self.act(y + (torch.cat([x, x], dim=1) if self.double else x))


class Network(nn.Module):
    """Float stem, three pairs of grouped 3x3 and 1x1, float classifier."""

    def __init__(self, c: int = 24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.body = nn.Sequential(
            Layer(c, c, 3, 1, 4), Layer(c, 2 * c, 1, 1, 1), Layer(2 * c, 2 * c, 3, 2, 2), Layer(2 * c, 2 * c, 1, 1, 1),
            Layer(2 * c, 2 * c, 3, 1, 8), Layer(2 * c, 2 * c, 1, 1, 1),
        )  # fmt: skip
        self.fc = nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.body(self.stem(x)), 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
