"""BaseNet with k = 1 (examples/zoo/boolnet): a single slice, every block reads all channels, XNOR and OR shortcuts; the second stage is dilated instead of
strided."""

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
    return fit(_BOOLNET.BoolNet((16, 20), slices=1, halves=False, shifting=False, dilation=2), (1, 3, 32, 32))
