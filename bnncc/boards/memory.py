"""What a firmware takes of a board's flash and RAM: sizes from the linked program, the stack from the compiler's frames and the call graph."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnncc.boards.manifest import Board, find_board
from bnncc.boards.project import ram_of
from bnncc.boards.runner import call
from bnncc.codegen.output import METADATA_FILE
from bnncc.errors import TargetError

__all__ = ["FirmwareMemory", "measure_memory", "stack_bound"]

_PLENTY = "0x4000000"
_EXCEPTION_BYTES = 108
"""What a core with a floating-point unit pushes when an exception interrupts it."""

_REGISTER_BYTES = 4


@dataclass(frozen=True)
class FirmwareMemory:
    """Bytes of flash and of RAM, by what takes them.

    Parameters
    ----------
    board : Board
    flash : mapping of str to int
        ``weights`` (and thresholds and tables), ``code`` of the model, ``start-up`` (with main and what the C library adds).
    ram : mapping of str to int
        ``arena``, ``input``, ``output`` and ``stack``, the bound.
    """

    board: Board
    flash: Mapping[str, int]
    ram: Mapping[str, int]

    def over(self) -> list[tuple[str, int, int]]:
        """Return (memory, bytes needed, bytes there are) where the firmware takes more than the board has."""
        both = (("flash", self.flash, self.board.flash), ("RAM", self.ram, self.board.ram))
        found = [(name, sum(parts.values()), region.length) for name, parts, region in both if sum(parts.values()) > region.length]
        if not found and self.ram["stack"] > self.board.stack_bytes:
            found.append(("stack", self.ram["stack"], self.board.stack_bytes))
        return found

    def to_json(self) -> dict:
        """Return everything as what JSON can hold."""
        return {
            "board": self.board.name,
            "flash": dict(self.flash),
            "ram": dict(self.ram),
            "flash_bytes": self.board.flash.length,
            "ram_bytes": self.board.ram.length,
        }


def measure_memory(project: Path, timeout: float = 300.0) -> FirmwareMemory:
    """Compile and link a firmware project in a temporary folder, with room enough, and return what it takes.

    Raises
    ------
    TargetError
        It cannot be compiled, or its functions call one another in a circle, so that there is no bound for the stack.
    ToolchainError
        The cross compiler is not installed.
    """
    metadata = json.loads((project / METADATA_FILE).read_text(encoding="utf-8"))
    board, name = find_board(metadata["board"]), metadata["name"]
    with tempfile.TemporaryDirectory(prefix="bnncc-board-") as temporary:
        place = Path(temporary)
        for file in project.iterdir():
            if file.is_file() and file.suffix not in (".elf", ".map"):
                shutil.copyfile(file, place / file.name)
        script = (place / "link.ld").read_text(encoding="utf-8")
        (place / "link.ld").write_text(re.sub(r"LENGTH = 0x[0-9a-f]+", f"LENGTH = {_PLENTY}", script), encoding="utf-8")
        makefile = (place / "Makefile").read_text(encoding="utf-8")
        (place / "Makefile").write_text(makefile.replace("-ffunction-sections", "-ffunction-sections -fstack-usage -save-temps=obj"), encoding="utf-8")
        call(["make", "-s"], place, timeout, "build the firmware")
        linked, own = (_sections(board, place / file, timeout) for file in ("firmware.elf", _object_of(place, name)))
        frames = _frames(place)
        listing = call([f"{board.tool_prefix}objdump", "-d", "--no-show-raw-insn", str(place / "firmware.elf")], place, timeout, "read the firmware")
    weights = sum(size for section, size in own.items() if section.startswith((".rodata", ".srodata")))
    code = sum(size for section, size in own.items() if section.startswith(".text"))
    flash = sum(size for section, size in linked.items() if section in (".text", ".ARM.exidx", ".data"))
    ram = ram_of(metadata, board)
    ram["stack"] = stack_bound(listing, frames) + _EXCEPTION_BYTES
    return FirmwareMemory(board, {"weights": weights, "code": code, "start-up": max(0, flash - weights - code)}, ram)


def _object_of(place: Path, name: str) -> str:
    (found,) = (path.name for path in place.glob(f"*{name}.o"))
    return found


def _sections(board: Board, path: Path, timeout: float) -> dict[str, int]:
    listed = call([f"{board.tool_prefix}size", "-A", str(path)], path.parent, timeout, "measure the firmware")
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\.\S+)\s+(\d+)\s", listed, re.M)}


def _frames(place: Path) -> dict[str, int]:
    """Return the frame of each function of ours in bytes, as the compiler tells it."""
    frames: dict[str, int] = {}
    for file in place.glob("*.su"):
        for line in file.read_text(encoding="utf-8").splitlines():
            where, size, _ = line.split("\t")
            function = where.rpartition(":")[2].partition(".")[0]
            frames[function] = max(frames.get(function, 0), int(size))
    return frames


def stack_bound(listing: str, frames: Mapping[str, int]) -> int:
    """Return how many bytes of stack a program takes at most, from its disassembly.

    Parameters
    ----------
    listing : str
        Of objdump. Calls by address only: those by pointer are not followed.
    frames : mapping of str to int
        Frames of functions that the compiler told; others are read from their instructions.

    Raises
    ------
    TargetError
        Functions call one another in a circle.
    """
    calls: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    function = ""
    for line in listing.splitlines():
        if head := re.match(r"[0-9a-f]+ <([^>+]+)>:", line):
            function = head[1].partition(".")[0]
            calls.setdefault(function, set())
            sizes.setdefault(function, 0)
        elif function and line.count("\t") >= 1:
            text = line.split("\t", 1)[1].replace("\t", " ")
            sizes[function] += _pushed(text)
            target = re.match(r"(?:b\S*|j\S*|call|tail)\s.*<([^>+]+)>", text)
            if target and target[1].partition(".")[0] != function:
                calls[function].add(target[1].partition(".")[0])
    sizes.update({name: max(size, sizes[name]) for name, size in frames.items() if name in sizes})
    known: dict[str, int] = {}

    def depth(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise TargetError(f"The stack has no bound: {' calls '.join((*above, name))}.")
        if name not in known:
            known[name] = sizes.get(name, 0) + max((depth(other, (*above, name)) for other in sorted(calls.get(name, ()))), default=0)
        return known[name]

    return depth("reset", ())


def _pushed(text: str) -> int:
    """Return how many bytes an instruction of Arm or RISC-V takes of the stack."""
    if m := re.match(r"(push|stmdb|vpush)(?:\.w)?\s+(?:sp!, )?\{(.*?)\}", text):
        registers = 0
        for part in m[2].split(","):
            first, _, last = part.strip().partition("-")
            registers += 1 if not last else int(re.sub(r"\D", "", last)) - int(re.sub(r"\D", "", first)) + 1
        return registers * _REGISTER_BYTES * (2 if "{d" in text else 1)
    if m := re.match(r"(?:sub\S*|add\S*)\s+sp, (?:sp, )?#(-?\d+)", text):
        size = int(m[1]) if text.startswith("sub") else -int(m[1])
        return max(0, size)
    if m := re.match(r"str\S*\s+\S+,.*\[sp, #-(\d+)\]!", text):
        return int(m[1])
    if m := re.match(r"(?:c\.)?addi\S*\s+sp, ?sp, ?-(\d+)", text):
        return int(m[1])
    return 0
