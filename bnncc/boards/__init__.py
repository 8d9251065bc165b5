"""Boards: manifests (one JSON file each), firmware projects around generated C, and running them under QEMU."""

from __future__ import annotations

from bnncc.boards.counting import FunctionCount, count_project
from bnncc.boards.manifest import Board, Region, board_names, find_board
from bnncc.boards.memory import FirmwareMemory, measure_memory
from bnncc.boards.project import write_project
from bnncc.boards.runner import is_project, require_tools, run_project
from bnncc.boards.vectors import Vectors, bytes_of_vector, tolerance_of

__all__ = [
    "Board",
    "FirmwareMemory",
    "FunctionCount",
    "Region",
    "Vectors",
    "board_names",
    "bytes_of_vector",
    "count_project",
    "find_board",
    "is_project",
    "measure_memory",
    "require_tools",
    "run_project",
    "tolerance_of",
    "write_project",
]
