"""CI-BCNN: Wang, Lu, Tao, Zhou, Tian: Learning Channel-wise Interactions for Binary CNNs, CVPR 2019.

A ResNet of signs in which, behind each binary convolution, the bit counts of some channels are corrected by others: a teacher channel beyond
a threshold adds a constant to its student, as the discretised influence says. Faithful to the authors' code (ZiweiWangTHU/CI-BCNN,
``models/binarized_modules.py`` and ``resnet.py``): plain sign of weights and inputs, corrections written into the sum channel by channel, in
order, so that a student may be a later student's teacher; influences +0.04 (``x + (t >= T) - (t <= -T)``) and -0.04 (``x - (t >= T) - (t <= -T)``,
the sign of the second as the code has it), times a constant; convolution -> BatchNorm -> Hardtanh -> convolution, the shortcut added in front of
the second BatchNorm, a binary 1x1 on strided shortcuts, BatchNorm1d -> Hardtanh -> binary dense layer -> BatchNorm1d at the end. T and the
constant are 200 and 100 there, for sums of 720 to 2880 products; here they shrink with the sums.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, sign_function
from torch import Tensor, nn


class InteractingConv(nn.Module):
    """Binary convolution whose output channels correct each other."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, interactions: tuple[tuple[int, int, float], ...] = ()):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.options = {"stride": stride, "padding": kernel // 2}
        self.interactions = interactions
        products = c_in * kernel * kernel
        self.threshold, self.amount = float(round(products * 0.2)), float(round(products * 0.1))

    def forward(self, x: Tensor) -> Tensor:
        out = F.conv2d(sign_function(x), sign_function(self.weight), **self.options)
        for teacher, student, influence in self.interactions:
            t = out[:, teacher, :, :]
            high, low = torch.ge(t, self.threshold).float(), torch.le(t, -self.threshold).float()
            change = high - low if influence > 0 else -(high + low)
            out[:, student, :, :] = out[:, student, :, :] + change * self.amount
        return out


INTERACTIONS = ((0, 3, 0.04), (3, 7, -0.04), (5, 1, 0.04))


class BasicBlock(nn.Module):
    """Two convolutions; the last block of the network ends without BatchNorm."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, last: bool = False):
        super().__init__()
        self.conv1, self.bn1 = InteractingConv(c_in, c_out, 3, stride, INTERACTIONS), nn.BatchNorm2d(c_out)
        self.conv2 = InteractingConv(c_out, c_out, 3, 1, INTERACTIONS)
        self.bn2 = None if last else nn.BatchNorm2d(c_out)
        self.downsample = nn.Sequential(InteractingConv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out)) if stride != 1 or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        residual = x.clone()
        out = F.hardtanh(self.bn1(self.conv1(x)))
        out = self.conv2(out)
        if self.downsample is not None:
            residual = self.downsample(residual)
        out += residual
        return out if self.bn2 is None else F.hardtanh(self.bn2(out))


class Network(nn.Module):
    """Float stem, two blocks, binary dense layer."""

    def __init__(self, c: int = 16, d: int = 20):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.layers = nn.Sequential(BasicBlock(c, c), BasicBlock(c, d, 2, last=True))
        self.bn2, self.fc, self.bn3 = nn.BatchNorm1d(d), nn.Linear(d, 10), nn.BatchNorm1d(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.hardtanh(self.bn1(self.conv1(x))))
        x = F.avg_pool2d(x, 8)
        x = F.hardtanh(self.bn2(x.view(x.size(0), -1)))
        out = F.linear(sign_function(x), sign_function(self.fc.weight))
        out += self.fc.bias.view(1, -1).expand_as(out)
        return F.log_softmax(self.bn3(out), dim=1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
