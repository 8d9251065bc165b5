"""BoolNet (examples/zoo/boolnet) with float shortcuts: the same layers, but feature maps are float sums and only the convolutions' inputs are signs; what boolean feature maps save is measured against it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from layers import fit
from torch import nn

_SPEC = importlib.util.spec_from_file_location("zoo_boolnet_layers", Path(__file__).resolve().parents[1] / "boolnet" / "network.py")
_BOOLNET = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_BOOLNET)


def build() -> nn.Module:
    """Return the network in eval mode, with random weights."""
    return fit(_BOOLNET.BoolNet(real=True), (1, 3, 32, 32))
