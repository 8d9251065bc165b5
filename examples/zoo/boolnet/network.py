"""BoolNet: Guo, Bethge, Yang, Zhong, Ning, Meinel, Wang: BoolNet: Minimizing the Energy Consumption of Binary Neural Networks, 2021 (arXiv 2106.06991).

Narrower and shallower, for 32x32 images. Faithful: every feature map between stem and head is of signs alone; a convolution with k groups narrows C channels to C/k, and the
multi-slice sign compares each with k offsets, so that C signs come out (k = 4); half of the channels pass each block by, concatenated and shuffled; the shortcut round the first
convolution is an OR (in clip arithmetic on 0 and 1), that round the second an XNOR (a product); 3x3 convolutions pad with the edge's own signs; downsampling is a binary
1x1 convolution, a max pool, BatchNorm and the multi-slice sign; the head is PReLU, average pool and a dense layer. The second block's second convolution is dilated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn

__all__ = ["BoolNet", "MultiSliceSign", "build"]

SLICES = 4


def residual_sign(x: Tensor) -> Tensor:
    """Return sign(x) with a hardtanh's gradient, the residue of which stays in the graph."""
    clipped = x.clamp(-1, 1)
    return (x.sign() - clipped).detach() + clipped


class MultiSliceSign(nn.Module):
    """Compare every channel with k evenly spaced offsets; the signs of one channel stand next to each other."""

    def __init__(self, slices: int = SLICES):
        super().__init__()
        self.register_buffer("offsets", (torch.arange(slices) * 2 + 1 - slices).float().div(slices).view(1, slices, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return residual_sign(x.unsqueeze(2) + self.offsets).reshape(n, c * self.offsets.shape[1], h, w)


class BinaryConv(nn.Module):
    """A convolution with binarized weights on signs, padded with the edge's."""

    def __init__(self, c_in: int, c_out: int, size: int = 3, groups: int = 1, dilation: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in // groups, size, size))
        self.groups, self.dilation, self.pad = groups, dilation, size // 2 * dilation

    def forward(self, x: Tensor) -> Tensor:
        if self.pad:
            x = F.pad(x, (self.pad,) * 4, mode="replicate")
        return F.conv2d(x, residual_sign(self.weight), dilation=self.dilation, groups=self.groups)


def either(a: Tensor, b: Tensor) -> Tensor:
    """Return the OR of two tensors of signs, as the authors' code spells it."""
    return ((a + 1) / 2 + (b + 1) / 2).clamp(0, 1) * 2 - 1


class Block(nn.Module):
    """Two convolutions on half of the channels.

    Parameters
    ----------
    channels : int
        Of the whole feature map.
    shifting : bool
        Local adaptive shifting: a float depthwise 3x3 convolution moves each pixel in front of the first sign.
    dilation : int
        Of the second convolution.
    real : bool
        Float shortcuts instead of boolean ones: feature maps are sums, and each convolution takes their signs.
    """

    def __init__(self, channels: int, *, shifting: bool = False, dilation: int = 1, real: bool = False):
        super().__init__()
        half, narrow = channels // 2, channels // 2 // SLICES
        self.conv1, self.bn1 = BinaryConv(half, narrow, groups=SLICES), nn.BatchNorm2d(narrow)
        self.conv2, self.bn2 = BinaryConv(half, narrow, groups=SLICES, dilation=dilation), nn.BatchNorm2d(narrow)
        self.shift = nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow) if shifting else None
        self.sign, self.real = MultiSliceSign(), real

    def forward(self, x: Tensor) -> Tensor:
        passing, x = x.chunk(2, dim=1)
        y = self.bn1(self.conv1(residual_sign(x) if self.real else x))
        if self.shift is not None:
            y = y + self.shift(y)
        if self.real:
            x = self.spread(y) + x
            x = self.spread(self.bn2(self.conv2(residual_sign(x)))) + x
        else:
            x = either(self.sign(y), x)
            x = self.sign(self.bn2(self.conv2(x))) * x
        n, c, h, w = x.shape
        return torch.cat([passing, x], dim=1).reshape(n, 2, c, h, w).transpose(1, 2).reshape(n, 2 * c, h, w)

    @staticmethod
    def spread(y: Tensor) -> Tensor:
        """Repeat every channel as the multi-slice sign does."""
        return y.repeat_interleave(SLICES, dim=1)


class Down(nn.Module):
    """Half the resolution: binary 1x1 convolution, max pool, BatchNorm, multi-slice sign."""

    def __init__(self, c_in: int, c_out: int, *, real: bool = False):
        super().__init__()
        self.conv, self.bn = BinaryConv(c_in, c_out // SLICES, size=1), nn.BatchNorm2d(c_out // SLICES)
        self.sign, self.real = MultiSliceSign(), real

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(F.max_pool2d(self.conv(residual_sign(x) if self.real else x), 2))
        return Block.spread(y) if self.real else self.sign(y)


class BoolNet(nn.Module):
    """Stem, a stage of two blocks and one of one, head.

    Parameters
    ----------
    channels : int
        Of the first stage's feature maps; the second has twice as many.
    shifting, real : bool
        As in `Block`; shifting in the first block.
    """

    def __init__(self, channels: int = 96, *, shifting: bool = False, real: bool = False):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, channels // SLICES, 3, padding=1, bias=False), nn.BatchNorm2d(channels // SLICES)
        self.sign = nn.Module() if real else MultiSliceSign()
        self.real = real
        self.body = nn.Sequential(
            Block(channels, shifting=shifting, real=real), Block(channels, dilation=2, real=real), Down(channels, 2 * channels, real=real),
            Block(2 * channels, real=real),
        )  # fmt: skip
        self.act, self.fc = nn.PReLU(2 * channels), nn.Linear(2 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x))
        x = self.body(Block.spread(x) if self.real else self.sign(x))
        return self.fc(F.adaptive_avg_pool2d(self.act(x), 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(BoolNet(), (1, 3, 32, 32))
