"""What a firmware project spends where: instructions counted under QEMU, function by function, and the time they mean at the board's clock."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bnncc.boards import FunctionCount, count_project, find_board

__all__ = ["FirmwareCounts", "count_firmware"]


@dataclass(frozen=True)
class FirmwareCounts:
    """Instructions of one run.

    Parameters
    ----------
    name, board : str
    clock_hz : int
    functions : list of FunctionCount
    """

    name: str
    board: str
    clock_hz: int
    functions: list[FunctionCount]

    @property
    def instructions(self) -> int:
        """Of one run."""
        return sum(row.instructions for row in self.functions)

    @property
    def cycles(self) -> int | None:
        """Of one run, by the model of the core; None where there is none."""
        return None if any(row.cycles is None for row in self.functions) else sum(row.cycles for row in self.functions)

    @property
    def milliseconds(self) -> float | None:
        """What the cycles take at the board's clock, without wait states of its flash."""
        return None if self.cycles is None else 1e3 * self.cycles / self.clock_hz

    def to_json(self) -> dict:
        """Return everything as what JSON can hold."""
        return {**asdict(self), "instructions": self.instructions, "cycles": self.cycles, "milliseconds": self.milliseconds}

    def to_text(self, console: Console) -> None:
        """Print the counts for readers."""
        table = Table("function", "ONNX nodes", box=None, pad_edge=False)
        table.add_column("instructions", justify="right")
        table.add_column("cycles, estimated", justify="right")
        for row in self.functions:
            table.add_row(row.function, row.layers, f"{row.instructions:,}", "-" if row.cycles is None else f"{row.cycles:,}")
        console.print(table)
        estimate = (
            "" if self.cycles is None else f"; about {self.cycles:,} cycles, {self.milliseconds:.2f} ms at {self.clock_hz / 1e6:g} MHz without wait states"
        )
        console.print(f"{self.name} on {self.board}: {self.instructions:,} instructions a run{estimate}", soft_wrap=True)
        console.print("Counted under QEMU, which models no caches, buses or flash: the cycles are those of a simple model of the core.", soft_wrap=True)


def count_firmware(folder: Path, timeout: float = 600.0) -> FirmwareCounts:
    """Build a firmware project, run it under QEMU and count; errors as of `count_project`."""
    functions = count_project(folder, timeout)
    metadata = json.loads((Path(folder) / "metadata.json").read_text(encoding="utf-8"))
    board = find_board(metadata["board"])
    return FirmwareCounts(metadata["name"], board.name, board.clock_hz, functions)
