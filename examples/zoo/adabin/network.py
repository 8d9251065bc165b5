"""AdaBin: Tu, Chen, Ren, Wang: AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets, ECCV 2022 (arXiv 2208.08084).

ResNet-20's shape for CIFAR-10, narrower. Checked against huawei-noah/Efficient-Computing (BinaryNetworks/AdaBin/cifar10: utils/binarylib.py, nets/resnet20.py):
activations are a * (sign((x - b) / a) + b) with one learned pair a layer, sign with the polynomial estimator's residue; weights are standardised in the graph,
signed, times the deviation and plus the mean of each filter; the layer pads with a real 0, which is neither value; convolution -> BatchNorm -> shortcut ->
Maxout (learned slopes of both sides) round every convolution; the parameter-free shortcut of IR-Net; BatchNorm1d in front of the classifier.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit, polynomial_sign, sign_function
from torch import Tensor, nn


class Maxout(nn.Module):
    """One slope a channel where x > 0, another where x < 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.neg_scale = nn.Parameter(0.25 + 0.1 * torch.rand(channels))
        self.pos_scale = nn.Parameter(1.0 + 0.1 * torch.rand(channels))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.pos_scale.view(1, -1, 1, 1) * self.relu(x) - self.neg_scale.view(1, -1, 1, 1) * self.relu(-x)


class BinaryActivation(nn.Module):
    """Two values, a * (b - 1) and a * (b + 1); at x = b there is a third, a * b."""

    def __init__(self):
        super().__init__()
        self.alpha_a = nn.Parameter(torch.tensor(1.0) + 0.3 * torch.randn(()))
        self.beta_a = nn.Parameter(0.1 * torch.randn(()))

    def forward(self, x: Tensor) -> Tensor:
        x = polynomial_sign((x - self.beta_a) / self.alpha_a)
        return self.alpha_a * (x + self.beta_a)


class AdaBinConv2d(nn.Conv2d):
    """Binarizes its input and its weights."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__(c_in, c_out, 3, stride, 1, bias=False)
        self.binary_a, self.filter_size = BinaryActivation(), 9 * c_in

    def forward(self, x: Tensor) -> Tensor:
        x, w = self.binary_a(x), self.weight
        beta_w = w.mean((1, 2, 3)).view(-1, 1, 1, 1)
        alpha_w = torch.sqrt(((w - beta_w) ** 2).sum((1, 2, 3)) / self.filter_size).view(-1, 1, 1, 1)
        weight = sign_function((w - beta_w) / alpha_w) * alpha_w + beta_w
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class BasicBlock(nn.Module):
    """Two convolutions, each with shortcut and Maxout."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1, self.nonlinear1 = AdaBinConv2d(c_in, c_out, stride), nn.BatchNorm2d(c_out), Maxout(c_out)
        self.conv2, self.bn2, self.nonlinear2 = AdaBinConv2d(c_out, c_out), nn.BatchNorm2d(c_out), Maxout(c_out)
        self.added = c_out // 4 if stride != 1 or c_in != c_out else 0

    def shortcut(self, x: Tensor) -> Tensor:
        """Every second pixel, and zeros for the new channels."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added), "constant", 0) if self.added else x

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        out += self.shortcut(x)
        out = self.nonlinear1(out)
        x1 = out
        out = self.bn2(self.conv2(out))
        out += x1
        return self.nonlinear2(out)


class ResNet(nn.Module):
    """Stem, two blocks, BatchNorm1d, classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv1, self.bn1, self.nonlinear1 = nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), Maxout(c)
        self.layers = nn.Sequential(BasicBlock(c, c), BasicBlock(c, 2 * c, 2))
        self.bn2, self.linear = nn.BatchNorm1d(2 * c), nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(self.nonlinear1(self.bn1(self.conv1(x))))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(self.bn2(out.view(out.size(0), -1)))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(ResNet(), (1, 3, 16, 16))
