"""Counting the instructions of a firmware under QEMU, function by function: a plugin counts blocks, the symbols of the firmware say whose they are."""

from __future__ import annotations

import bisect
import functools
import json
import platform
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.boards.manifest import Board, find_board
from bnncc.boards.runner import build_project, call, emulate
from bnncc.codegen.output import METADATA_FILE
from bnncc.errors import TargetError
from bnncc.targets import find_target
from bnncc.toolchain import find_compiler

__all__ = ["FunctionCount", "count_project"]

_MODELS = ("m4", "m0")
_JUMP_CYCLES = 2
_AROUND = ("main", "semihosting", "board_read", "board_write")
"""Functions that run for every sample and are none of the model's."""


@dataclass(frozen=True)
class FunctionCount:
    """What one run of the model spends in a function.

    Parameters
    ----------
    function : str
    layers : str
        The ONNX nodes it computes, as its comment says; empty for what kernels share.
    instructions : int
    cycles : int or None
        By the model of the core (`count.c`), without wait states; None where there is no model.
    """

    function: str
    layers: str
    instructions: int
    cycles: int | None


@functools.cache
def _plugin() -> bytes:
    """Compile the plugin; return the library."""
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        library = Path(folder) / "count.so"
        compiler = find_compiler(f"{platform.machine()}-linux-gnu")
        call([*compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("count.c"))], Path(folder), 60, "build the counter")
        return library.read_bytes()


def _symbols(board: Board, firmware: Path) -> tuple[list[int], list[str]]:
    """Return addresses and names of the functions of a firmware, in order of address."""
    listed = call([f"{board.tool_prefix}nm", str(firmware)], firmware.parent, 60, "list the functions of the firmware")
    found = sorted((int(m[1], 16) & ~1, m[2]) for m in re.finditer(r"^([0-9a-f]+) [tT] ([^$\s]\S*)$", listed, re.M))
    return [address for address, _ in found], [name.partition(".")[0] for _, name in found]  # clones count for their function


def _count(board: Board, place: Path, samples: int, content: bytes, timeout: float) -> Counter:
    """Run the firmware on a number of samples and return (instructions, cycles) by function."""
    (place / "input.bin").write_bytes(content * samples)
    (place / "count.so").write_bytes(_plugin())
    said = emulate(board, place / "firmware.elf", place, timeout, ["-plugin", str(place / "count.so")], "COUNT ")
    addresses, names = _symbols(board, place / "firmware.elf")
    model = find_target(board.target).variants[0].cycle_model
    found: Counter = Counter()
    for line in re.findall(r"^COUNT (.*)$", said, re.M):
        address, *numbers = line.split()
        instructions, runs, taken, *cycles = map(int, numbers)
        at = bisect.bisect_right(addresses, int(address, 16)) - 1
        name = names[at] if at >= 0 else "?"
        found[name, "instructions"] += instructions * runs
        if model:
            found[name, "cycles"] += cycles[_MODELS.index(model)] * runs + _JUMP_CYCLES * taken
    if not found:
        raise TargetError(f"QEMU for {board.name} reported no counts: it was built without plugins. Debian's qemu-system has them.")
    return found


def _layers(source: str) -> Mapping[str, str]:
    """Return the comment above each function of the generated C."""
    return {m[2]: m[1] for m in re.finditer(r"^/\* (.*) \*/\n\w+ void (\w+)\(", source, re.M)}


def count_project(folder: Path, timeout: float = 600.0) -> list[FunctionCount]:
    """Build a firmware project, run it under QEMU with a counter, and return what one run of the model spends where.

    Counted is what a second sample adds to a first one, so that start-up and reading files are left out. Inputs are random.

    Raises
    ------
    LibraryError, TargetError, ToolchainError
        As of `run_project`; also where QEMU has no plugins.
    """
    metadata = json.loads((Path(folder) / METADATA_FILE).read_text(encoding="utf-8"))
    board = find_board(metadata["board"])
    rng = np.random.default_rng(0)
    content = b"".join(_random(rng, tensor).tobytes() for tensor in metadata["inputs"])
    with tempfile.TemporaryDirectory(prefix="bnncc-board-") as temporary:
        place = Path(temporary)
        build_project(folder, board, place, timeout)
        once, twice = (_count(board, place, samples, content, timeout) for samples in (1, 2))
    source = (Path(folder) / f"{metadata['name']}.c").read_text(encoding="utf-8")
    layers = _layers(source)
    spent = {name: twice[name, "instructions"] - once[name, "instructions"] for name, what in twice if what == "instructions"}
    rows = []
    for name, instructions in spent.items():
        if instructions > 0 and name not in _AROUND:
            cycles = twice[name, "cycles"] - once[name, "cycles"] if (name, "cycles") in twice else None
            rows.append(FunctionCount(name, layers.get(name, ""), instructions, cycles))
    order = {name: number for number, name in enumerate(layers)}
    return sorted(rows, key=lambda row: (order.get(row.function, len(order)), -row.instructions))


def _random(rng, tensor: Mapping) -> np.ndarray:
    shape, dtype = tensor["shape"], np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
