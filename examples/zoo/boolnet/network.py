"""BoolNet: Guo, Bethge, Yang, Zhong, Ning, Meinel, Wang: BoolNet: Minimizing the Energy Consumption of Binary Neural Networks, 2021 (arXiv 2106.06991).

Narrower and shallower, for 64x64 images; block order, offsets, shortcuts and downsampling as in the authors' code (github.com/hpi-xnor/BoolNet). Every
feature map between stem and head is of signs alone, k = 4 slices of C channels (a five-dimensional tensor): the multi-slice sign compares each channel with k
offsets, i / (k / 2 + 1) for i = -k/2 .. k/2 without 0. A 3x3 convolution has a group a slice and pads with the edge's own signs; its weights are signs times
their filter's mean. A block works on half of the channels: convolution, BatchNorm, sign, XNOR (a product) with what came in; a second convolution, BatchNorm,
sign, OR (in clip arithmetic on 0 and 1) with what came in; the result is shuffled, channel by channel, with the other half, which passes by. Where a stage
begins, the first convolution strides over all channels and the shortcut is a binary 1x1 convolution, a max pool, BatchNorm and the multi-slice sign. The last
block ends in a real sum: BatchNorm of the second convolution, and of the slices' mean. The stem is a 7x7 convolution, BatchNorm and a max pool; with local
adaptive shifting a float depthwise 3x3 convolution moves each pixel in front of its sign. The head is PReLU, average pool and a dense layer.

BaseNet, the paper's simpler network, passes no half by: every block reads all channels. It has no local adaptive shifting, and k = 4 or 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn

__all__ = ["Block", "BoolNet", "MultiSliceSign", "build", "residual_sign"]


def residual_sign(x: Tensor) -> Tensor:
    """Return sign(x) with a hardtanh's gradient, the residue of which stays in the graph."""
    clipped = x.clamp(-1, 1)
    return (F.hardtanh(x).sign() - clipped).detach() + clipped


class MultiSliceSign(nn.Module):
    """Compare every channel with k evenly spaced offsets: (N, C, H, W) to signs (N, k, C, H, W). A single slice compares with 0."""

    def __init__(self, slices: int):
        super().__init__()
        half = slices // 2
        offsets = [i / (half + 1) for i in range(-half, half + 1) if i] or [0.0]
        self.register_buffer("offsets", torch.tensor(offsets).view(1, -1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return residual_sign(x.unsqueeze(1) + self.offsets)


class BinaryConv(nn.Module):
    """A convolution of all slices with binarized, scaled weights, padded with the edge's own signs."""

    def __init__(self, c_in: int, c_out: int, size: int = 3, *, stride: int = 1, groups: int = 1, dilation: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, size, size))
        self.groups, self.stride, self.dilation, self.pad = groups, stride, dilation, size // 2 * dilation

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(x.shape[0], -1, *x.shape[-2:])
        if self.pad:
            x = F.pad(x, (self.pad,) * 4, mode="replicate")
        scale = self.weight.abs().mean(-1, keepdim=True).mean(-2, keepdim=True).mean(-3, keepdim=True)
        return F.conv2d(x, residual_sign(self.weight).mul(scale), stride=self.stride, dilation=self.dilation, groups=self.groups)


def either(a: Tensor, b: Tensor) -> Tensor:
    """Return the OR of two tensors of signs."""
    return ((b + 1) / 2 + (a + 1) / 2).clamp(0, 1) * 2 - 1


class Down(nn.Module):
    """The shortcut into a stage: binary 1x1 convolution, max pool, BatchNorm, multi-slice sign."""

    def __init__(self, c_in: int, c_out: int, sign: nn.Module, stride: int):
        super().__init__()
        self.conv, self.bn, self.sign, self.stride = BinaryConv(c_in, c_out, size=1), nn.BatchNorm2d(c_out), sign, stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.sign(self.bn(F.max_pool2d(y, 2) if self.stride == 2 else y))


class Block(nn.Module):
    """Two convolutions with boolean shortcuts.

    Parameters
    ----------
    c_in, channels : int
        Channels of a slice: of what comes in, and of what each convolution makes.
    sign : callable
        Makes the module behind each BatchNorm: the multi-slice sign, or what stands for it.
    slices : int
    stride, dilation : int
    halves : bool
        Whether half of the channels pass by (BoolNet, not BaseNet).
    last : bool
        Ends in a real sum.
    """

    def __init__(self, c_in: int, channels: int, sign, *, slices: int, stride: int = 1, dilation: int = 1, halves: bool = True, last: bool = False):
        super().__init__()
        self.begins = stride != 1 or c_in not in (channels, 2 * channels)
        self.halves, self.last, self.splits = halves, last, halves and not self.begins and c_in == 2 * channels
        reads = channels if self.splits else c_in
        self.down = Down(c_in * slices, channels, sign(), stride) if self.begins else None
        self.conv1, self.bn1, self.sign1 = BinaryConv(reads, channels, stride=stride, groups=slices, dilation=dilation), nn.BatchNorm2d(channels), sign()
        self.conv2, self.bn2, self.sign2 = BinaryConv(channels, channels, groups=slices, dilation=dilation), nn.BatchNorm2d(channels), sign()
        self.bn3 = nn.BatchNorm2d(channels) if last else None

    def codes(self, x: Tensor) -> Tensor:
        """Return what a convolution reads of a feature map: it is of signs already."""
        return x

    def combine_first(self, y: Tensor, shortcut: Tensor) -> Tensor:
        """Return the XNOR of two tensors of signs."""
        return y.mul(shortcut)

    def combine_second(self, y: Tensor, shortcut: Tensor) -> Tensor:
        """Return the OR of two tensors of signs."""
        return either(y, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        n, k, c, _, _ = x.shape
        worked = x[:, :, : c // 2].contiguous() if self.splits else x
        shortcut = worked if self.down is None else self.down(self.codes(x))
        y = self.combine_first(self.sign1(self.bn1(self.conv1(self.codes(worked)))), shortcut)
        z = self.bn2(self.conv2(self.codes(y)))
        if self.last:
            return z + self.bn3(y.mean(1))
        z = self.combine_second(self.sign2(z), shortcut)
        if not self.halves:
            return z
        passing = x[:, :, c // 2 :] if self.splits else shortcut
        z = torch.cat([z.unsqueeze(2), passing.unsqueeze(2)], dim=2)
        return z.transpose(2, 3).contiguous().view(n, k, -1, *z.shape[-2:]).contiguous()


class BoolNet(nn.Module):
    """Stem, two stages of two blocks, head.

    Parameters
    ----------
    channels : tuple of int
        Of a slice, in the two stages.
    slices : int
    halves, shifting : bool
        BoolNet: half of the channels pass each block by; local adaptive shifting in the stem. BaseNet has neither.
    dilation : int
        Of the second stage, instead of a stride of 2 where it is not 1.
    block, sign : callable
        What the blocks are, and what follows each BatchNorm.
    """

    def __init__(
        self,
        channels: tuple[int, int] = (12, 20),
        *,
        slices: int = 4,
        halves: bool = True,
        shifting: bool = True,
        dilation: int = 1,
        block=Block,
        sign=MultiSliceSign,
    ):
        super().__init__()
        c, d = channels
        self.conv, self.bn = nn.Conv2d(3, c, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(c)
        self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c) if shifting else None
        self.shift = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False, groups=c), nn.BatchNorm2d(c)) if shifting else None
        self.sign = sign(slices)
        made, wide = {"slices": slices, "halves": halves}, 2 if halves else 1
        stride = 2 if dilation == 1 else 1
        self.body = nn.Sequential(
            block(c, c, lambda: sign(slices), **made), block(wide * c, c, lambda: sign(slices), **made),
            block(wide * c, d, lambda: sign(slices), stride=stride, **made), block(wide * d, d, lambda: sign(slices), dilation=dilation, last=True, **made),
        )  # fmt: skip
        self.act, self.fc = nn.PReLU(d), nn.Linear(d, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn(self.conv(x)), 3, 2, 1)
        z = self.bn1(x)
        if self.shift is not None:
            z = z + self.shift(self.bn2(x))
        x = self.act(self.body(self.sign(z)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1))


def build() -> nn.Module:
    """Return BoolNet with k = 4, without local adaptive shifting, in eval mode, with random weights."""
    return fit(BoolNet(shifting=False), (1, 3, 64, 64))
