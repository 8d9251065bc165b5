"""IR-Net: Qin, Gong, Liu, Shen, Wei, Yu, Song: Forward and Backward Information Retention for Accurate BNNs, CVPR 2020 (arXiv 1909.10788).

ResNet-20's shape for CIFAR-10, narrower. Faithful to the authors' code: weights standardised in the graph, then signed, times 2^s; sign ->
convolution -> BatchNorm -> shortcut -> hardtanh round every convolution; the parameter-free shortcut x[:, :, ::2, ::2] with padded channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from layers import IRConv, fit, sign_function
from torch import Tensor, nn


class Conv(IRConv):
    """Binarizes its input too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(sign_function(x), self.binary_weight(), stride=self.stride, padding=self.padding)


class BasicBlock(nn.Module):
    """Two convolutions, each with shortcut and hardtanh."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = Conv(c_in, c_out), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = Conv(c_out, c_out), nn.BatchNorm2d(c_out)
        self.conv1.stride, self.added = stride, (c_out - c_in) // 2

    def shortcut(self, x: Tensor) -> Tensor:
        """Every second pixel, and zeros for the new channels."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added), "constant", 0) if self.added else x

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        out += self.shortcut(x)
        out = F.hardtanh(out)
        x1 = out
        out = self.bn2(self.conv2(out))
        out += x1
        return F.hardtanh(out)


class ResNet(nn.Module):
    """Stem, two blocks, BatchNorm1d, classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.layers = nn.Sequential(BasicBlock(c, c), BasicBlock(c, 2 * c, 2))
        self.bn2, self.linear = nn.BatchNorm1d(2 * c), nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(F.hardtanh(self.bn1(self.conv1(x))))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(self.bn2(out.view(out.size(0), -1)))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(ResNet(), (1, 3, 16, 16))
