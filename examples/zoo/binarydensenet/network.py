"""BinaryDenseNet: Bethge, Yang, Bornstein, Meinel: BinaryDenseNet, ICCV Workshops 2019 (arXiv 1906.08637).

Narrower. Checked against hpi-xnor/bitorch (models/densenet.py, layers/qconv2d.py) and hpi-xnor/BMXNet-v2-examples (binary_models/basenet_dense.py): a layer is
BatchNorm -> sign with 0 as +1 -> padding with -1 -> 3x3 binary convolution (no bottleneck), concatenated to its float input, so that every layer has thresholds
of its own for the same features; a transition is BatchNorm -> MaxPool -> ReLU -> real-valued 1x1 convolution; the stem for small images is one convolution.
"""

from __future__ import annotations

from bitorch_layers import DenseLayer, initial_layers, transition
from layers import fit
from torch import Tensor, nn


class Network(nn.Module):
    """Float stem, dense blocks of three and two layers."""

    def __init__(self, c: int = 16, growth: int = 12):
        super().__init__()
        first = [DenseLayer(c + i * growth, growth) for i in range(3)]
        second = [DenseLayer(16 + i * growth, growth) for i in range(2)]
        self.features = nn.Sequential(*initial_layers("thumbnail", c), *first, transition(c + 3 * growth, 16), *second)
        self.finalize = nn.Sequential(nn.BatchNorm2d(16 + 2 * growth), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.output = nn.Linear(16 + 2 * growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.finalize(self.features(x)))


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(Network(), (1, 3, 16, 16))
