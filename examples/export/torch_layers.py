"""Binarizing activations, binary convolutions and blocks, spelled as published PyTorch code spells them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def where_sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1."""
    return torch.where(x >= 0, 1.0, -1.0)


def sign_detached(x: Tensor) -> Tensor:
    """The straight-through estimator of a hard tanh."""
    clipped = torch.clamp(x, -1.0, 1.0)
    return (torch.sign(x) - clipped).detach() + clipped


def polynomial_sign(x: Tensor) -> Tensor:
    """The estimator of Bi-Real Net: sign forward, a piecewise quadratic backward."""
    mask1, mask2, mask3 = x < -1, x < 0, x < 1
    out1 = (-1) * mask1.type(torch.float32) + (x * x + 2 * x) * (1 - mask1.type(torch.float32))
    out2 = out1 * mask2.type(torch.float32) + (-x * x + 2 * x) * (1 - mask2.type(torch.float32))
    out3 = out2 * mask3.type(torch.float32) + 1 * (1 - mask3.type(torch.float32))
    return torch.sign(x).detach() - out3.detach() + out3


def dorefa(x: Tensor, bits: int = 2) -> Tensor:
    """DoReFa-Net: clip to [0, 1], round to 2^bits levels."""
    n = 2**bits - 1
    return torch.round(torch.clamp(x, 0, 1) * n) / n


def pact(x: Tensor, alpha: float = 1.7, bits: int = 2) -> Tensor:
    """PACT: the clip spelled by absolute values, then rounding."""
    clipped = 0.5 * (x.abs() - (x - alpha).abs() + alpha)
    scale = (2**bits - 1) / alpha
    return torch.round(clipped * scale) / scale


class BatchNormalized(nn.Module):
    """A layer followed by BatchNormalization."""

    def __init__(self, layer: nn.Module, channels: int):
        super().__init__()
        self.layer, self.norm = layer, nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x))


class SignConv(nn.Module):
    """Convolution with sign(W)."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel) * 0.1)
        self.padding, self.stride = kernel // 2, 1

    def binary_weight(self) -> Tensor:
        return torch.sign(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.binary_weight(), stride=self.stride, padding=self.padding)


class MeanAbsConv(SignConv):
    """Convolution with mean(|W|) * sign(W), a scale a filter."""

    def binary_weight(self) -> Tensor:
        return self.weight.abs().mean(dim=(1, 2, 3), keepdim=True) * torch.sign(self.weight)


class HardBinaryConv(SignConv):
    """Bi-Real Net's: the scale by three means, and the straight-through residue of a clip."""

    def binary_weight(self) -> Tensor:
        scale = torch.mean(torch.mean(torch.mean(abs(self.weight), dim=3, keepdim=True), dim=2, keepdim=True), dim=1, keepdim=True)
        signed = scale.detach() * torch.sign(self.weight)
        clipped = torch.clamp(self.weight, -1.0, 1.0)
        return signed.detach() - clipped.detach() + clipped


class IRConv(SignConv):
    """IR-Net: standardised weights, signed, times a power of two."""

    def binary_weight(self) -> Tensor:
        w = self.weight
        flat = (w.size(0), -1)
        w = w - w.view(*flat).mean(-1).view(w.size(0), 1, 1, 1)
        w = w / w.view(*flat).std(-1).view(w.size(0), 1, 1, 1)
        scale = torch.pow(2.0, (torch.log(w.abs().view(*flat).mean(-1)) / math.log(2)).round().float()).view(w.size(0), 1, 1, 1)
        return torch.sign(w) * scale


class PlainSignConv(nn.Conv2d):
    """Weights that are +-1 already when the network is exported."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(c_in, c_out, 3, padding=1, bias=False)
        with torch.no_grad():
            self.weight.copy_(torch.sign(self.weight))


class ScaledBySpatialMean(nn.Module):
    """XNOR-Net: BN, sign, convolution, times K (mean of |x| over channels, box-filtered), ReLU."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(c_in), MeanAbsConv(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        k = F.conv2d(x.abs().mean(1, keepdim=True), torch.full((1, 1, 3, 3), 1 / 9), padding=1)
        return F.relu(self.conv(where_sign(x)) * k)


class RSign(nn.Module):
    """ReActNet: a learned shift a channel, then the sign."""

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return polynomial_sign(x + self.shift.expand_as(x))


class RPReLU(nn.Module):
    """ReActNet: shift, PReLU, shift."""

    def __init__(self, channels: int):
        super().__init__()
        self.before = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.2)
        self.after = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.2)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(x + self.before.expand_as(x)) + self.after.expand_as(x)


class ReActBlock(nn.Module):
    """3x3 with shortcut, then two 1x1 branches, concatenated: the block that doubles the channels."""

    def __init__(self, c: int):
        super().__init__()
        self.sign3, self.conv3, self.relu3 = RSign(c), BatchNormalized(HardBinaryConv(c, c), c), RPReLU(c)
        self.sign1, self.relu1 = RSign(c), RPReLU(2 * c)
        self.left = BatchNormalized(HardBinaryConv(c, c, 1), c)
        self.right = BatchNormalized(HardBinaryConv(c, c, 1), c)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu3(self.conv3(self.sign3(x)) + x)
        bits = self.sign1(y)
        return self.relu1(torch.cat([self.left(bits) + y, self.right(bits) + y], dim=1))


class BoolBlock(nn.Module):
    """BoolNet: two-slice sign, grouped convolution with replicated border, XNOR and OR shortcuts, channel shuffle."""

    def __init__(self, c: int):
        super().__init__()
        self.register_buffer("slices", torch.tensor([-0.5, 0.5]).view(1, 2, 1, 1, 1))
        self.first = BatchNormalized(nn.Conv2d(2 * c, c, 3, groups=2, bias=False), c)
        self.second = BatchNormalized(nn.Conv2d(c, c, 3, groups=2, bias=False), c)
        for conv in (self.first.layer, self.second.layer):
            conv.weight.data.sign_()

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        sliced = where_sign(x.unsqueeze(1) + self.slices).view(n, 2 * c, h, w)
        a = where_sign(x)
        b = where_sign(self.first(F.pad(sliced, (1, 1, 1, 1), mode="replicate"))) * a
        shuffled = b.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        d = where_sign(self.second(F.pad(shuffled, (1, 1, 1, 1), mode="replicate")))
        merged = torch.clamp((d + 1) / 2 + (a + 1) / 2, 0, 1) * 2 - 1
        return torch.cat([merged[:, c // 2 :], d[:, : c // 2]], dim=1)
