"""IR-Net: Qin, Gong, Liu, Shen, Wei, Yu, Song: Forward and Backward Information Retention for Accurate BNNs, CVPR 2020 (arXiv 1909.10788).

ResNet-20's shape for CIFAR-10, narrower. Checked against htqin/IR-Net (CIFAR-10/ResNet20/1w1a: resnet.py, modules/ir_1w1a.py, binaryfunction.py): weights
are standardised in the graph by views and `std`, signed, and multiplied by 2^s, a power of a vector of twos, viewed as 4-D; sign -> convolution ->
BatchNorm -> shortcut -> hardtanh round every convolution; the parameter-free shortcut x[:, :, ::2, ::2] with padded channels; BatchNorm1d in front of the
classifier.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn


class BinaryQuantize(torch.autograd.Function):
    """Sign forward; backward the derivative of k * tanh(t * x), whose k and t are operands."""

    @staticmethod
    def forward(ctx, x: Tensor, k: Tensor, t: Tensor) -> Tensor:
        """Return sign(x)."""
        ctx.save_for_backward(x, k, t)
        return torch.sign(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the estimator."""
        x, k, t = ctx.saved_tensors
        return k * t * (1 - torch.tanh(x * t) ** 2) * grad, None, None


class IRConv2d(nn.Conv2d):
    """Binarizes its input and its balanced, standardised weights."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__(c_in, c_out, 3, stride, 1, bias=False)
        self.k, self.t = torch.tensor([10.0]), torch.tensor([0.1])

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        count = w.size(0)
        bw = w - w.view(count, -1).mean(-1).view(count, 1, 1, 1)
        bw = bw / bw.view(bw.size(0), -1).std(-1).view(bw.size(0), 1, 1, 1)
        power = (torch.log(bw.abs().view(bw.size(0), -1).mean(-1)) / math.log(2)).round().float()
        sw = torch.pow(torch.tensor([2] * bw.size(0)).float(), power).view(bw.size(0), 1, 1, 1).detach()
        bw, ba = BinaryQuantize.apply(bw, self.k, self.t), BinaryQuantize.apply(x, self.k, self.t)
        return F.conv2d(ba, bw * sw, self.bias, self.stride, self.padding, self.dilation, self.groups)


class BasicBlock(nn.Module):
    """Two convolutions, each with shortcut and hardtanh."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = IRConv2d(c_in, c_out, stride), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = IRConv2d(c_out, c_out), nn.BatchNorm2d(c_out)
        self.added = c_out // 4 if stride != 1 or c_in != c_out else 0

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
