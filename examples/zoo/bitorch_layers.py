"""What BinaryDenseNet, MeliusNet and ResNetE share in their authors' PyTorch code.

That is hpi-xnor/bitorch (layers/qconv2d.py, quantizations/sign.py, models/common_layers.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import clamped_sign
from torch import Tensor, nn

__all__ = ["DenseLayer", "QConv2d", "initial_layers", "transition"]


class QConv2d(nn.Conv2d):
    """Binarizes its input and its weights, sign(0) = +1 by a comparison with the sign, and pads with -1, in front of the convolution."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, padding: int = 0):
        super().__init__(c_in, c_out, kernel_size, stride, padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(clamped_sign(x), self._reversed_padding_repeated_twice, mode="constant", value=-1.0)
        return F.conv2d(padded, clamped_sign(self.weight), None, self.stride, 0, self.dilation, self.groups)


def initial_layers(variant: str, channels: int) -> list[nn.Module]:
    """Return the float stem: one 3x3 (small images), or three 3x3, two of them grouped, then BatchNorm, ReLU and a pool."""
    if variant == "thumbnail":
        return [nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False)]
    width = channels // 2
    return [
        nn.Conv2d(3, width, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=3, stride=1, padding=1, groups=4, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, channels, kernel_size=3, stride=1, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    ]  # fmt: skip


class DenseLayer(nn.Module):
    """BatchNorm and a binary 3x3 that makes new features, concatenated to the old ones."""

    def __init__(self, c_in: int, growth: int):
        super().__init__()
        self.features = nn.Sequential(nn.BatchNorm2d(c_in), QConv2d(c_in, growth, kernel_size=3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.features(x)], 1)


class ChannelShuffle(nn.Module):
    """Reshape, transpose, reshape: the TorchScript exporter has nothing for torch.nn.ChannelShuffle, so this is what has to stand there."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def transition(c_in: int, c_out: int, *, shuffle: int = 1, groups: int = 1) -> nn.Sequential:
    """Return BatchNorm, pool, ReLU, channel shuffle where there are groups, and a real-valued 1x1 convolution."""
    mixed = [ChannelShuffle(shuffle)] if shuffle > 1 else []
    return nn.Sequential(
        nn.BatchNorm2d(c_in), nn.MaxPool2d(2, stride=2), nn.ReLU(), *mixed, nn.Conv2d(c_in, c_out, kernel_size=1, groups=groups, bias=False)
    )
