"""PACT: Choi et al.: PACT: Parameterized Clipping Activation for Quantized Neural Networks, 2018 (arXiv 1805.06085).

A ResNet with pre-activations, as the paper's ResNet-18: BatchNorm -> activation -> convolution twice, added to the real-valued shortcut; where shapes change
a quantized 1x1 convolution of the activation is the shortcut. Activations of 2 bits are clipped at a learned alpha (equation 1), weights are DoReFa's of 2
bits (section 4.2 of the paper). First and last layer are float.

The authors published no code; the clip and the quantizers were checked against code that follows the paper, of which pact_spellings tells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn

BITS = 2


class Pact(nn.Module):
    """Activation clipped at a learned alpha."""

    def __init__(self, alpha: float):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, x: Tensor) -> Tensor:
        clipped = 0.5 * (torch.abs(x) - torch.abs(x - self.alpha) + self.alpha)
        scale = (2**BITS - 1) / self.alpha
        return torch.round(clipped * scale) / scale


class QuantizedConv(nn.Conv2d):
    """Convolution whose weights are DoReFa's."""

    def forward(self, x: Tensor) -> Tensor:
        n = 2**BITS - 1
        w = torch.tanh(self.weight)
        w = w / (2 * w.abs().max()) + 0.5
        return F.conv2d(x, 2 * torch.round(w * n) / n - 1, self.bias, self.stride, self.padding)


class Block(nn.Module):
    """Two convolutions and their shortcut."""

    def __init__(self, cin: int, cout: int, stride: int, alpha: float):
        super().__init__()
        self.norm1, self.act1 = nn.BatchNorm2d(cin), Pact(alpha)
        self.conv1 = QuantizedConv(cin, cout, 3, stride, 1, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(cout), Pact(1.4 * alpha)
        self.conv2 = QuantizedConv(cout, cout, 3, 1, 1, bias=False)
        self.shortcut = QuantizedConv(cin, cout, 1, stride, bias=False) if stride > 1 or cin != cout else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(self.act2(self.norm2(self.conv1(active)))) + shortcut


class Network(nn.Module):
    """Stem, three blocks, classifier."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(Block(c, c, 1, 1.7), Block(c, 2 * c, 2, 2.1), Block(2 * c, 2 * c, 1, 1.3))
        self.norm, self.classifier = nn.BatchNorm2d(2 * c), nn.Linear(2 * c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
