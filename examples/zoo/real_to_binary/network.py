"""Real-to-Binary: Martinez, Yang, Bulat, Tzimiropoulos: Training BNNs with Real-to-Binary Convolutions, ICLR 2020 (arXiv 2003.11535).

ResNet-18's shape, narrower. The authors' repository (brais-martinez/real2binary) holds a README alone; checked against larq/zoo
(larq_zoo/literature/real_to_bin_nets.py), which reproduces the paper: BatchNorm -> sign -> convolution -> times a gate -> PReLU, with a shortcut round every
convolution; the gate is computed at run time of what is binarized, behind the BatchNorm: global average -> dense (C/8) -> ReLU -> dense -> sigmoid, no
biases, one factor a channel; strided shortcuts are AvgPool -> 1x1 -> BatchNorm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class GatedConv(nn.Module):
    """One convolution with its gate and shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.bn, self.act, self.stride = nn.BatchNorm2d(c_in), nn.PReLU(c_out), stride
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3) * 0.1)
        self.gate = nn.Sequential(
            nn.Linear(c_in, c_in // 8, bias=False), nn.ReLU(inplace=True), nn.Linear(c_in // 8, c_out, bias=False), nn.Sigmoid()
        )
        same = stride == 1 and c_in == c_out
        self.down = (
            nn.Identity() if same else nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        real = self.bn(x)
        y = F.conv2d(sign_function(real), sign_function(self.weight), stride=self.stride, padding=1)
        gate = self.gate(F.adaptive_avg_pool2d(real, 1).view(x.size(0), -1)).view(x.size(0), -1, 1, 1)
        return self.act(y * gate) + self.down(x)


class Network(nn.Module):
    """Float stem, four gated convolutions, float classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.PReLU(c))
        self.body = nn.Sequential(GatedConv(c, c), GatedConv(c, c), GatedConv(c, 2 * c, 2), GatedConv(2 * c, 2 * c))
        self.fc = nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.body(self.stem(x)), 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
