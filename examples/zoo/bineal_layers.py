"""BiNeal: binary convolutions on the main path and on the skip, int4 accumulators, a saturating sum, a sign.

The paper and its code were not to be found in public; this follows the description in words: each path is sign, binary convolution, BatchNorm, with learned
b0 and tau (position and width of the sign), lambda (gain of the convolution), k and b1 (slope and offset after BatchNorm). Both paths are rounded and clipped
to int4 with one learned scale, added with saturation, and the next block binarizes the sum. So feature maps between blocks are bits, and no tensor is wider
than 4 bits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BiNeal", "Block"]


def _normal(*shape: int, mean: float = 0.0, deviation: float = 0.1) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * deviation + mean)


class LearnedSign(nn.Module):
    """Sign of (x - b0) / tau, +1 at 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.b0, self.tau = _normal(1, channels, 1, 1), _normal(1, channels, 1, 1, mean=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where((x - self.b0) / self.tau >= 0, 1.0, -1.0)


class BinaryPath(nn.Module):
    """lambda * conv(sign(x), sign(W)), BatchNorm, k * y + b1, rounded and clipped to int4 in units of `scale`."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, transposed: bool = False):
        super().__init__()
        self.sign = LearnedSign(c_in)
        self.transposed, self.stride, self.padding = transposed, stride, (kernel - stride) // 2 if transposed else kernel // 2
        self.weight = nn.Parameter(torch.randn(*((c_in, c_out) if transposed else (c_out, c_in)), kernel, kernel))
        self.gain = _normal(1, c_out, 1, 1, mean=0.1, deviation=0.02)
        self.norm = nn.BatchNorm2d(c_out)
        self.k, self.b1 = _normal(1, c_out, 1, 1, mean=1.0), _normal(1, c_out, 1, 1)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        x, weight = self.sign(x), torch.where(self.weight >= 0, 1.0, -1.0)
        convolve = F.conv_transpose2d if self.transposed else F.conv2d
        y = self.norm(self.gain * convolve(x, weight, None, self.stride, self.padding))
        return torch.clamp(torch.round((self.k * y + self.b1) / scale), -8, 7)


class Block(nn.Module):
    """A 3x3 path beside a 1x1 path, both binary, and the saturating sum of their int4 codes; transposed: both are doubled in size."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, transposed: bool = False):
        super().__init__()
        self.main = BinaryPath(c_in, c_out, 4 if transposed else 3, stride, transposed)
        self.skip = BinaryPath(c_in, c_out, 2 if transposed else 1, stride, transposed)
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.main(x, self.scale) + self.skip(x, self.scale), -8, 7)


class BiNeal(nn.Module):
    """A float stem that halves the image, and blocks; those of stride 2 halve it again. Returns what every scale ends with."""

    def __init__(self, channels: tuple[int, ...] = (24, 32, 32), strides: tuple[int, ...] = (1, 2), stem: int = 2):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, channels[0], 3, stem, 1, bias=False), nn.BatchNorm2d(channels[0])
        self.blocks = nn.ModuleList(Block(a, b, s) for a, b, s in zip(channels[:-1], channels[1:], strides, strict=True))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, ends = self.norm(self.stem(x)), []
        for block in self.blocks:
            if block.main.stride == 2:
                ends.append(x)
            x = block(x)
        return [*ends, x]
