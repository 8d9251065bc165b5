"""BoolNet (examples/zoo/boolnet) as the authors train it: local adaptive shifting in the stem, a depthwise 3x3 convolution of what a second BatchNorm made,
added in front of the sign."""

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
    return fit(_BOOLNET.BoolNet(), (1, 3, 64, 64))
