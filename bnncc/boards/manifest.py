"""What a board is: one JSON file in ``manifests/``, read into a frozen record that validates itself."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from bnncc.errors import InternalError, TargetError
from bnncc.targets import find_target

__all__ = ["Board", "Region", "board_names", "find_board"]

_FOLDER = Path(__file__).parent / "manifests"


@dataclass(frozen=True)
class Region:
    """A stretch of memory: address and size in bytes."""

    origin: int
    length: int


@dataclass(frozen=True)
class Board:
    """A board that firmware is written for.

    Parameters
    ----------
    name, description : str
    target : str
        Of `bnncc.targets`; says how C is compiled.
    flash, ram : Region
    stack_bytes : int
        Reserved for the stack, out of the RAM.
    clock_hz : int
    emulator : tuple of str
        Command of QEMU without the firmware; empty where the firmware is built, but not run here.
    """

    name: str
    description: str
    target: str
    flash: Region
    ram: Region
    stack_bytes: int
    clock_hz: int
    emulator: tuple[str, ...] = ()

    @property
    def tool_prefix(self) -> str:
        """What the names of the cross compiler's programs start with."""
        return "riscv64-unknown-elf-" if self.target.startswith("riscv") else "arm-none-eabi-"

    def __post_init__(self):
        if not find_target(self.target).variants[0].is_source:
            raise InternalError(f"board {self.name}: {self.target} is no target of C code")
        if self.stack_bytes % 16 or not 0 < self.stack_bytes < self.ram.length:
            raise InternalError(f"board {self.name}: {self.stack_bytes} bytes of stack")


def board_names() -> list[str]:
    """Return all names that `find_board` takes."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def find_board(name: str) -> Board:
    """Return the board called `name`.

    Raises
    ------
    TargetError
        There is none of that name; the message lists those there are and names the nearest.
    """
    if name not in board_names():
        near = difflib.get_close_matches(name, board_names(), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise TargetError(f"There is no board {name!r}.{hint} Boards: {', '.join(board_names())}.")
    given = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    regions = {part: Region(*(int(str(v), 0) for v in given.pop(part))) for part in ("flash", "ram")}
    return Board(name=name, emulator=tuple(given.pop("emulator", ())), **regions, **given)
