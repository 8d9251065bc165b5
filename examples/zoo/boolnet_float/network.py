"""BoolNet (examples/zoo/boolnet) with float shortcuts: the same layers, but feature maps are float sums and only the convolutions' inputs are signs; what
boolean feature maps save is measured against it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from layers import fit
from torch import Tensor, nn

_SPEC = importlib.util.spec_from_file_location("zoo_boolnet_layers", Path(__file__).resolve().parents[1] / "boolnet" / "network.py")
_BOOLNET = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_BOOLNET)


class Offsets(_BOOLNET.MultiSliceSign):
    """The slices of a multi-slice sign, not compared."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1) + self.offsets


class RealBlock(_BOOLNET.Block):
    """A block that adds its shortcuts."""

    def codes(self, x: Tensor) -> Tensor:
        """Return the signs of a feature map."""
        return _BOOLNET.residual_sign(x)

    def combine_first(self, y: Tensor, shortcut: Tensor) -> Tensor:
        """Return the sum."""
        return y + shortcut

    combine_second = combine_first


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(_BOOLNET.BoolNet(shifting=False, block=RealBlock, sign=Offsets), (1, 3, 64, 64))
