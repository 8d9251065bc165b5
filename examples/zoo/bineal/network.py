"""BiNeal with a head for classification; the blocks are those of ../bineal_layers.py, which says what they follow."""

from __future__ import annotations

from bineal_layers import BiNeal
from layers import fit
from torch import Tensor, nn


class Classifier(nn.Module):
    """Mean of the last codes, a dense layer."""

    def __init__(self):
        super().__init__()
        self.body, self.dense = BiNeal(), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.body(x)[-1].mean((2, 3)))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Classifier(), (1, 3, 16, 16))
