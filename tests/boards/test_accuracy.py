"""Trained networks on every QEMU board, 100 images each: outputs are those of this machine's library, so accuracy is too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from bnncc.boards import find_board

from .test_projects import need

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "firmware.py"
SPEC = importlib.util.spec_from_file_location("firmware_benchmark", SCRIPT)
firmware = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = firmware  # its dataclasses look themselves up there
SPEC.loader.exec_module(firmware)

CASES = [(name, board) for name, network in firmware.NETWORKS.items() for board in network.boards]
RIGHT = {"tfc": 96, "gtsrb": 73, "cnv": 83, "digits": 98}
"""Of the first hundred images, what the reference has right (cnv: as ../shared/models/README.md says)."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "board"), CASES)
def test_a_trained_network_is_as_good_on_a_board_as_by_onnxruntime(name, board):
    chosen = find_board(board)
    need("make", chosen.emulator[0], f"{chosen.tool_prefix}gcc")
    for file in (firmware.NETWORKS[name].model, firmware.NETWORKS[name].data):
        if not file.exists():
            pytest.skip(f"{file.name} is not here")
    row = firmware.measure(name, board, 100)
    print(row)
    assert row.images == 100 and row.right == row.right_here == row.right_reference == RIGHT[name]
    # a float layer, or a softmax of another C library, may round otherwise; a wrong bit shows in the third digit
    assert row.largest == 0 if name in ("tfc", "cnv") else row.largest <= 1e-6
