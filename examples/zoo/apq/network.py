"""APQ and other mixed precision: Wang, Wang, Cai, Lin, Liu, Wang, Lin, Han: APQ: Joint Search for Architecture, Pruning and Quantization, CVPR 2020.

An inverted-residual network in which pointwise and depthwise convolutions of every block have bits of their own, 8 among them, for weights and
for activations. Checked against the authors' code (mit-han-lab/apq, ``quantize_utils.py``, ``modules/layers.py`` and
``dynamic_quantized_proxyless.py``; mit-han-lab/haq has the same quantizers): in front of a convolution, ``0.5 (|x| - |x - a| + a)`` behind ReLU6
and the full wave ``0.5 (|-x - a| - |x - a|)`` behind a linear bottleneck, of one bit less; divided by a step, rounded, multiplied; weights
clipped to their largest magnitude, likewise; the first convolution reads the real image; identity shortcuts. Bounds are
tensors where that code takes ``.item()``, which the newer exporter cannot follow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn


class QuantizedConv(nn.Conv2d):
    """Quantizes its input, unless it has no bits, and its weights."""

    def __init__(self, *arguments, weight_bits: int, activation_bits: int, half_wave: bool = True, bound: float = 3.0, **options):
        super().__init__(*arguments, bias=False, **options)
        self.weight_bits, self.activation_bits, self.half_wave = weight_bits, activation_bits - (not half_wave), half_wave
        self.activation_range = nn.Parameter(torch.tensor([bound]))

    def quantized_input(self, x: Tensor) -> Tensor:
        """Codes of `activation_bits`, times a step."""
        a = self.activation_range
        clipped = 0.5 * (x.abs() - (x - a).abs() + a) if self.half_wave else 0.5 * ((-x - a).abs() - (x - a).abs())
        step = a / (2.0**self.activation_bits - 1.0)
        return clipped.div(step).round().mul(step)

    def quantized_weight(self) -> Tensor:
        """Codes of `weight_bits`, both ends alike, times a step."""
        bound = self.weight.abs().max()
        step = bound / (2.0 ** (self.weight_bits - 1) - 1.0)
        return self.weight.clamp(-bound, bound).div(step).round().mul(step)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quantized_input(x) if self.activation_bits > 0 else x
        return F.conv2d(x, self.quantized_weight(), None, self.stride, self.padding, self.dilation, self.groups)


class InvertedBlock(nn.Module):
    """Pointwise with full wave, depthwise, linear pointwise; a shortcut where shapes agree."""

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int, pointwise: tuple[int, int], depthwise: tuple[int, int]):
        super().__init__()
        c, point, depth = c_in * expansion, dict(zip(("weight_bits", "activation_bits"), pointwise)), dict(zip(("weight_bits", "activation_bits"), depthwise))
        self.expand = nn.Sequential(QuantizedConv(c_in, c, 1, half_wave=False, bound=2.5, **point), nn.BatchNorm2d(c), nn.ReLU6(inplace=True))
        self.depth = nn.Sequential(QuantizedConv(c, c, 3, stride, 1, groups=c, **depth), nn.BatchNorm2d(c), nn.ReLU6(inplace=True))
        self.linear = nn.Sequential(QuantizedConv(c, c_out, 1, **point), nn.BatchNorm2d(c_out))
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(self.depth(self.expand(x)))
        return x + y if self.shortcut else y


class Network(nn.Module):
    """8-bit weights on the real image, four blocks, an 8-bit 1x1, a quantized classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.first = nn.Sequential(QuantizedConv(3, c, 3, stride=2, padding=1, weight_bits=8, activation_bits=0), nn.BatchNorm2d(c), nn.ReLU6(inplace=True))
        self.blocks = nn.Sequential(
            InvertedBlock(c, c, 2, 1, (8, 8), (8, 8)),
            InvertedBlock(c, 24, 2, 2, (4, 6), (6, 4)),
            InvertedBlock(24, 24, 2, 1, (6, 4), (8, 6)),
            InvertedBlock(24, 24, 2, 1, (4, 4), (4, 8)),
        )
        self.mix = nn.Sequential(QuantizedConv(24, 64, 1, half_wave=False, weight_bits=8, activation_bits=8), nn.BatchNorm2d(64), nn.ReLU6(inplace=True))
        self.classifier = QuantizedConv(64, 10, 1, weight_bits=8, activation_bits=8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.blocks(self.first(x)))
        return self.classifier(x.mean(3, keepdim=True).mean(2, keepdim=True)).flatten(1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 32, 32))
