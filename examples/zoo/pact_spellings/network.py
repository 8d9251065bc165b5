"""PACT: Choi, Wang, Venkataramani, Chuang, Srinivasan, Gopalakrishnan: PACT: Parameterized Clipping Activation, 2018 (arXiv 1805.06085).

The activation is clipped at a learned a and rounded to k bits; weights are quantized as in DoReFa-Net, which is what the paper takes. Faithful:
convolution -> BatchNorm -> PACT, first and last layer real. Each block spells the clip another way: by the paper's equation 1,
``0.5 (|x| - |x - a| + a)``, by two choices, and by a clamp. The authors published no code; checked against code that follows the paper:
mit-han-lab/apq and mit-han-lab/haq (``quantize_utils.py``: the absolute values, division by the step, rounding, multiplication),
KwangHoonAn/PACT and hpi-xnor/bitorch (clamp, then ``round(y * s) / s`` with s = (2^k - 1) / a).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layers import fit
from torch import Tensor, nn


class Pact(nn.Module):
    """Clips at a learned bound and rounds to k bits."""

    def __init__(self, spelling: str, bits: int, bound: float):
        super().__init__()
        self.spelling, self.levels = spelling, 2**bits - 1
        self.alpha = nn.Parameter(torch.tensor([bound]))

    def forward(self, x: Tensor) -> Tensor:
        a = self.alpha
        if self.spelling == "absolute values":
            y = 0.5 * (x.abs() - (x - a).abs() + a)
            return torch.round(y * (self.levels / a)) * (a / self.levels)
        if self.spelling == "choices":
            y = torch.where(x < 0, torch.zeros_like(x), torch.where(x < a, x, a.expand_as(x)))
            step = a / self.levels
            return torch.round(y / step) * step
        scale = self.levels / a
        return torch.round(torch.clamp(x, torch.zeros_like(a), a) * scale) / scale


class DorefaConv(nn.Conv2d):
    """Weights of k bits in -1 .. 1, by tanh."""

    bits = 2

    def forward(self, x: Tensor) -> Tensor:
        n = 2**self.bits - 1
        w = torch.tanh(self.weight)
        w = 2 * torch.round(n * (w / (2 * torch.max(torch.abs(w)).detach()) + 0.5)) / n - 1
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class Network(nn.Module):
    """Float stem and classifier, three blocks between."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        described = (("absolute values", 2, 1.7), ("choices", 3, 2.3), ("clamp", 4, 1.9), ("absolute values", 4, 2.1))
        self.activations = nn.ModuleList(Pact(*each) for each in described)
        widths = (c, c, 24, 24)
        self.convs = nn.ModuleList(DorefaConv(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.classifier = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activations[0](self.norm(self.stem(x)))
        for conv, norm, activation in zip(self.convs, self.norms, list(self.activations)[1:]):
            x = activation(norm(conv(x)))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
