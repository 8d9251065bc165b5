"""BiNeal with a head for super-resolution; the blocks are those of ../bineal_layers.py, which says what they follow.

Fully convolutional: it takes images of any size whose sides are multiples of 4.
"""

from __future__ import annotations

import torch.nn.functional as F
from bineal_layers import BiNeal
from layers import fit
from torch import Tensor, nn


class SuperResolution(nn.Module):
    """Blocks at the image's own size, then twice the size by depth to space."""

    def __init__(self):
        super().__init__()
        self.body, self.last = BiNeal((32, 32, 32), (1, 1), stem=1), nn.Conv2d(32, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.last(self.body(x)[-1]), 2) + F.interpolate(x, scale_factor=2, mode="nearest")


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(SuperResolution(), (1, 3, 16, 16))
