"""A model on a board: budgets, reports, and the firmware beside this machine's library."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from bnncc.boards import Region, find_board
from bnncc.errors import BudgetError
from bnncc.report.board import check_budget, inspect_board, verify_firmware, write_firmware
from bnncc.report.inspect import inspect_model
from tests.cli.digits_commands import DIGITS, MODEL

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("make", "arm-none-eabi-gcc", "qemu-system-arm"))), reason="no make, cross compiler or emulator for Cortex-M"
)


def test_a_firmware_computes_what_this_machine_computes():
    with np.load(DIGITS / "test.npz") as data:
        images = data["images"][:3, None].astype(np.float32) / 16
    for row in verify_firmware(MODEL, "mps2-an386", images):
        assert row.ok and row.samples == 3 and row.elements == 30


def test_a_report_has_flash_ram_stack_and_cycles():
    report = inspect_board(MODEL, "mps2-an386")
    assert set(report.memory.flash) == {"weights", "code", "start-up"} and set(report.memory.ram) == {"arena", "input", "output", "stack"}
    assert all(report.memory.flash.values()) and report.counts.milliseconds > 0
    check_budget(report.memory)


def test_inspect_plans_with_the_kernels_that_are_asked_for():
    reports = {wanted: inspect_model(MODEL, target="cortex-m4", optimize_for=wanted) for wanted in ("speed", "ram")}
    assert reports["ram"].memory.arena_bytes < reports["speed"].memory.arena_bytes
    assert not any("sliced" in step.note for step in reports["ram"].steps) and any("sliced" in step.note for step in reports["speed"].steps)


def test_a_model_that_does_not_fit_is_told_what_would_and_nothing_is_written(tmp_path):
    board = find_board("mps2-an386")
    limit = sum(write_firmware(MODEL, board, tmp_path / "lean", optimize_for="ram")[0]["ram"].values()) + 16
    small = dataclasses.replace(board, ram=Region(board.ram.origin, limit))
    with pytest.raises(BudgetError, match=r"bytes of RAM .* It fits with .*`--optimize-for ram`\. Nothing was written"):
        write_firmware(MODEL, small, tmp_path / "proj")
    assert not (tmp_path / "proj").exists()
