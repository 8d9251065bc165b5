"""BiNeal with a head for matching; the blocks are those of ../bineal_layers.py, which says what they follow.

Fully convolutional: it takes images of any size whose sides are multiples of 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bineal_layers import BiNeal
from layers import fit
from torch import Tensor, nn


class Matcher(nn.Module):
    """Keypoint scores and descriptors of length 1, a place each."""

    def __init__(self):
        super().__init__()
        self.body = BiNeal()
        self.scores, self.descriptors = nn.Conv2d(32, 17, 1), nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last = self.body(x)[-1]
        return torch.softmax(self.scores(last), 1), F.normalize(self.descriptors(last), dim=1)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Matcher(), (1, 3, 32, 32))
