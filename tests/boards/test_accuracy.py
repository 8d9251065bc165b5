"""Trained networks on every QEMU board: outputs are those of this machine's library, so accuracy is too. 100 images on one board, 10 on each other."""

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

CASES = [
    (name, board, 100 if (name, board) == ("tfc", "microbit") else 10) for name, network in firmware.NETWORKS.items() for board in network.boards
]
LEAST = {"tfc": 0.9, "gtsrb": 0.8, "cnv": 0.8, "digits": 0.9}
"""Share of the first ten images, and of tfc's first hundred, that the reference has right."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "board", "images"), CASES)
def test_a_trained_network_is_as_good_on_a_board_as_here(name, board, images):
    chosen = find_board(board)
    need("make", chosen.emulator[0], f"{chosen.tool_prefix}gcc")
    for file in (firmware.NETWORKS[name].model, firmware.NETWORKS[name].data):
        if not file.exists():
            pytest.skip(f"{file.name} is not here")
    row = firmware.measure(name, board, images)
    print(row)
    assert row.images == images and row.right == row.right_here >= LEAST[name] * images
    # a float layer, or a softmax of another C library, may round otherwise; a wrong bit shows in the third digit
    assert row.largest == 0 if name in ("tfc", "cnv") else row.largest <= 1e-6
