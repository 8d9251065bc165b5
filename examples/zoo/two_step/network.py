"""Two-step quantization: Wang et al.: Two-Step Quantization for Low-bit Neural Networks, CVPR 2018.

2-bit activation codes in even steps, ternary weights with a scale a filter.
First and last layer are float.
"""

from __future__ import annotations

from layers import fit
from low_bit import LowBitNetwork, TernaryConv
from torch import Tensor, nn


class HwgqAct(nn.Module):
    """Quantizes a feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.538 * ((x > 0.269).float() + (x > 0.807).float() + (x > 1.345).float())


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(LowBitNetwork(HwgqAct, TernaryConv), (1, 3, 16, 16))
