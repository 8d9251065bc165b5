"""BiNeal with a head for detection; the blocks are those of ../bineal_layers.py, which says what they follow.

Fully convolutional: it takes images of any size whose sides are multiples of 4.
"""

from __future__ import annotations

import torch
from bineal_layers import BiNeal
from layers import fit
from torch import Tensor, nn


class Detector(nn.Module):
    """At two scales, boxes and class scores of 2 anchors a place, one row an anchor (as in SSD and YOLO)."""

    def __init__(self):
        super().__init__()
        self.body = BiNeal()
        self.boxes = nn.ModuleList(nn.Conv2d(c, 2 * 4, 1) for c in (32, 32))
        self.scores = nn.ModuleList(nn.Conv2d(c, 2 * 3, 1) for c in (32, 32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ends = self.body(x)
        boxes = [head(e).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for head, e in zip(self.boxes, ends, strict=True)]
        scores = [head(e).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 3) for head, e in zip(self.scores, ends, strict=True)]
        return torch.cat(boxes, 1), torch.sigmoid(torch.cat(scores, 1))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Detector(), (1, 3, 32, 32))
