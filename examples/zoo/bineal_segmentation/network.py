"""BiNeal with a head for segmentation; the blocks are those of ../bineal_layers.py, which says what they follow.

Fully convolutional: it takes images of any size whose sides are multiples of 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bineal_layers import BiNeal, Block
from layers import fit
from torch import Tensor, nn


class Segmenter(nn.Module):
    """Transposed binary convolutions back to the size of the stem, class scores, resized to the image, and the best class."""

    def __init__(self):
        super().__init__()
        self.body, self.up = BiNeal(), Block(32, 20, 2, transposed=True)
        self.near, self.scores = Block(32, 20), nn.Conv2d(20, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last = self.body(x)[-1]
        wide = torch.where(last >= 0, 1.0, -1.0)
        near = self.near(F.interpolate(wide, scale_factor=2, mode="nearest"))
        scores = self.scores(torch.clamp(self.up(last) + near, -8, 7))
        scores = F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)
        return scores, scores.argmax(1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Segmenter(), (1, 3, 32, 32))
