"""CBCN: Liu, Ding, Xia, Zhang, Gu, Liu, Ji, Doermann: Circulant Binary Convolutional Networks, CVPR 2019 (arXiv 1910.10853).

ResNet-18's shape, narrower. Checked against EnzoDuan/Circulant-Binary (ResNet18/resnet18_cifar.py, orn/modules/ORConv.py): feature maps have four
orientations a channel; each learned filter (four orientations of 3x3) is turned by 0, 90, 180, 270 degrees, its taps move round the ring and its orientations
move along, and the four turned filters make the four orientations of an output channel; the turning is in the graph, a gather before the sign. BatchNorm ->
sign -> convolution -> times the mean magnitude of the whole layer -> shortcut -> PReLU; strided shortcuts are 1x1 -> BatchNorm -> AvgPool.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn

TURNS = [[0, 1, 2, 3, 4, 5, 6, 7, 8], [2, 5, 8, 1, 4, 7, 0, 3, 6], [8, 7, 6, 5, 4, 3, 2, 1, 0], [6, 3, 0, 7, 4, 1, 8, 5, 2]]
"""Where each tap goes when the filter is turned by quarters."""


class CirculantConv(nn.Module):
    """Channels are counted in groups of four orientations."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.weight, self.stride = nn.Parameter(torch.randn(c_out, c_in, 36) * 0.1), stride
        goes = torch.tensor([[(layer + turn) % 4 * 9 + TURNS[turn][tap] for layer in range(4) for tap in range(9)] for turn in range(4)])
        self.register_buffer("comes_from", goes.argsort(dim=1).reshape(-1))

    def forward(self, x: Tensor) -> Tensor:
        c_out, c_in, _ = self.weight.shape
        turned = self.weight.index_select(2, self.comes_from).view(c_out, c_in, 4, 4, 3, 3).transpose(1, 2).reshape(4 * c_out, 4 * c_in, 3, 3)
        return F.conv2d(sign_function(x), sign_function(turned), None, self.stride, 1) * torch.mean(torch.abs(turned))


class BasicBlock(nn.Module):
    """One circulant convolution with its shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.bn, self.conv, self.prelu = nn.BatchNorm2d(4 * c_in), CirculantConv(c_in, c_out, stride), nn.PReLU(4 * c_out)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(4 * c_in, 4 * c_out, 1, bias=False), nn.BatchNorm2d(4 * c_out), nn.AvgPool2d(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(self.bn(x))
        out += x if self.downsample is None else self.downsample(x)
        return self.prelu(out)


class Network(nn.Module):
    """Float stem, three blocks, float classifier."""

    def __init__(self, c: int = 6):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4 * c, 3, padding=1, bias=False), nn.BatchNorm2d(4 * c), nn.PReLU(4 * c))
        self.layers = nn.Sequential(BasicBlock(c, c), BasicBlock(c, 8, 2), BasicBlock(8, 8))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.layers(self.stem(x)), 1)
        return self.fc(x.view(x.size(0), -1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
