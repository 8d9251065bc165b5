"""XNOR-Net++: Bulat, Tzimiropoulos: XNOR-Net++: Improved Binary Neural Networks, BMVC 2019 (arXiv 1909.13863).

ResNet-18's shape, narrower. Checked against 1adrianb/binary-networks-pytorch (bnn/ops.py, bnn/layers/conv.py, bnn/models/layers, bnn/models/resnet.py,
examples/recepies/xnor-net-plus.yaml): BatchNorm -> sign -> convolution -> learned scale, multiplied in place as a 4-D tensor -> PReLU; weights are centred
over input channels and mean(|W|) sign(W), spelled by norms and `expand_as`; strided shortcuts are AvgPool (ceil_mode, without the padding) -> 1x1 ->
BatchNorm, whose 1x1 is binarized like every convolution but the first; one shortcut round two convolutions. That code has the scale a channel alone; here it
is the paper's case 4, the product of learned vectors over channels, height and width, as in larq/zoo's LearnedRescaleLayer. It may be negative.
"""

from __future__ import annotations

import torch
from layers import fit, sign_function
from torch import Tensor, nn


class ScaledConv(nn.Conv2d):
    """Binary convolution times alpha (1, C, 1, 1) * beta (1, 1, H, 1) * gamma (1, 1, 1, W)."""

    def __init__(self, c_in: int, c_out: int, size: int, kernel_size: int = 3, stride: int = 1):
        super().__init__(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False)
        self.alpha = nn.Parameter(torch.randn(1, c_out, 1, 1) * 0.3)
        self.beta = nn.Parameter(0.5 + torch.rand(1, 1, size, 1))
        self.gamma = nn.Parameter(0.5 + torch.rand(1, 1, 1, size))

    def binary_weight(self) -> Tensor:
        """Centred, signed, times the mean magnitude."""
        w = self.weight.sub(self.weight.mean(1, keepdim=True).expand_as(self.weight))
        scale = w.norm(1, 3, keepdim=True).sum([2, 1], keepdim=True).div_(w[0].nelement())
        return sign_function(w).mul_(scale.expand_as(w))

    def forward(self, x: Tensor) -> Tensor:
        y = self._conv_forward(sign_function(x), self.binary_weight(), bias=self.bias)
        return y.mul_(self.alpha * self.beta * self.gamma)


class PreBasicBlock(nn.Module):
    """Two scaled convolutions, each with BatchNorm in front and PReLU behind, and one shortcut round both."""

    def __init__(self, c_in: int, c_out: int, size: int, stride: int):
        super().__init__()
        self.bn1, self.conv1, self.act1 = nn.BatchNorm2d(c_in), ScaledConv(c_in, c_out, size, stride=stride), nn.PReLU(num_parameters=c_out)
        self.bn2, self.conv2, self.act2 = nn.BatchNorm2d(c_out), ScaledConv(c_out, c_out, size), nn.PReLU(num_parameters=c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            pool = nn.AvgPool2d(kernel_size=stride, stride=stride, ceil_mode=True, count_include_pad=False)
            self.downsample = nn.Sequential(pool, ScaledConv(c_in, c_out, size, 1), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.act1(self.conv1(self.bn1(x)))
        out = self.act2(self.conv2(self.bn2(out)))
        out += identity
        return out


class Network(nn.Module):
    """Float stem, two blocks, float classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(PreBasicBlock(c, c, 16, 1), PreBasicBlock(c, 24, 8, 2))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(self.blocks(self.stem(x))), 1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
