"""FDA-BNN: Xu, Han, Xu, Tang, Xu, Wang: Learning Frequency Domain Approximation for Binary Neural Networks, NeurIPS 2021 (arXiv 2103.00841).

Sines approximate the sign's gradient, and a small network adapts it to noise; both are gone after training, which leaves signs. Faithful to
the authors' code (mindspore-ai/models, ``research/cv/FDA-BNN/src``: ``quan.py`` and ``resnet.py``): sign of the input, weights signed and times
one mean magnitude of the whole layer; convolution -> PReLU of one slope -> BatchNorm, the shortcut round two convolutions; strided shortcuts take
every second pixel and new channels of zeros; ReLU in front of the mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class QuanConv(nn.Conv2d):
    """Sign of the input, sign of the weights times one mean magnitude."""

    def forward(self, x: Tensor) -> Tensor:
        w = sign_function(self.weight) * torch.mean(torch.abs(self.weight))
        return F.conv2d(sign_function(x), w, None, self.stride, self.padding)


class BasicCell(nn.Module):
    """Two convolutions in one shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.conv1, self.relu1, self.bn1 = QuanConv(c_in, c_out, 3, stride, 1, bias=False), nn.PReLU(), nn.BatchNorm2d(c_out)
        self.conv2, self.relu2, self.bn2 = QuanConv(c_out, c_out, 3, 1, 1, bias=False), nn.PReLU(), nn.BatchNorm2d(c_out)
        self.stride, self.added = stride, (c_out - c_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.relu1(self.conv1(x)))
        out = self.bn2(self.relu2(self.conv2(out)))
        if self.stride != 1 or self.added:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added))
        out += x
        return out


class ResNet(nn.Module):
    """Float stem, three cells, classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.layers = nn.Sequential(BasicCell(c, c), BasicCell(c, 2 * c, 2), BasicCell(2 * c, 2 * c))
        self.linear = nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.layers(self.bn1(self.conv1(x))))
        return self.linear(torch.mean(out, (2, 3), keepdim=True).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(ResNet(), (1, 3, 16, 16))
