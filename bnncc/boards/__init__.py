"""Boards: manifests (one JSON file each), firmware projects around generated C, and running them under QEMU."""

from __future__ import annotations

from bnncc.boards.counting import FunctionCount, count_project
from bnncc.boards.manifest import Board, Region, board_names, find_board
from bnncc.boards.memory import FirmwareMemory, measure_memory
from bnncc.boards.project import write_project
from bnncc.boards.runner import is_project, run_project

__all__ = [
    "Board",
    "FirmwareMemory",
    "FunctionCount",
    "Region",
    "board_names",
    "count_project",
    "find_board",
    "is_project",
    "measure_memory",
    "run_project",
    "write_project",
]
