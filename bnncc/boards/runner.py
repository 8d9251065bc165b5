"""Building a firmware project and running it under QEMU; inputs and outputs are files that the firmware reaches by semihosting."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bnncc.boards.manifest import Board, find_board
from bnncc.boards.project import EMULATOR_OPTIONS
from bnncc.codegen.output import METADATA_FILE, PROJECT_FORMAT
from bnncc.errors import LibraryError, TargetError, ToolchainError

__all__ = ["build_project", "call", "emulate", "is_project", "require_tools", "run_project"]

_TAIL_LINES = 12
_PACKAGES = (
    "On Debian: `apt install make gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm`, for RISC-V "
    "`gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc`."
)
_NO_C_LIBRARY = re.compile(r"fatal error: \S+\.h: No such file|cannot read spec file|cannot find -l|cannot find crt")


def is_project(folder: Path) -> bool:
    """Tell whether `folder` holds a firmware project."""
    try:
        return json.loads((Path(folder) / METADATA_FILE).read_text(encoding="utf-8")).get("format") == PROJECT_FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def _require(program: str, what: str) -> None:
    if shutil.which(program) is None:
        raise ToolchainError(f"{program} is not installed; bnncc needs it to {what}. {_PACKAGES}")


def require_tools(board: Board, *, runs: bool) -> None:
    """Raise where a program is missing that firmware for a board is built by and, where it runs, the board's emulator; asked before long work.

    Raises
    ------
    TargetError
        It is to run, but QEMU does not know the board.
    ToolchainError
        make, the cross compiler or QEMU is not installed.
    """
    if runs and not board.emulator:
        raise TargetError(f"QEMU has no model of {board.name}: build the project with `make` and flash it.")
    for program in ("make", f"{board.tool_prefix}gcc"):
        _require(program, f"build firmware for {board.name}")
    if runs:
        _require(board.emulator[0], f"run firmware of {board.name}")


def call(command: Sequence[str], folder: Path, timeout: float, what: str, counts: str = "") -> str:
    """Run a command and return what it prints, on either stream.

    Parameters
    ----------
    counts : str
        What lines start with that are numbers for a program: an error does not repeat them.

    Raises
    ------
    ToolchainError
        It is not installed.
    TargetError
        It fails or takes too long; the message ends with its last lines.
    """
    _require(command[0], what)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{command[0]} did not finish to {what} within {timeout:.0f} s: the firmware hangs, or is given too many samples at once.") from error
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).strip().splitlines() if not (counts and line.startswith(counts))]
        missing = next(filter(_NO_C_LIBRARY.search, said), None)
        if missing is not None:
            raise ToolchainError(f"The C library for the board is not installed, so {command[0]} failed to {what} ({missing.strip()}). {_PACKAGES}")
        last = "\n".join(said[-_TAIL_LINES:])
        raise TargetError(f"{command[0]} failed to {what} (exit {done.returncode}). Its last lines:\n{last}")
    return done.stdout + done.stderr


def emulate(board: Board, firmware: Path, folder: Path, timeout: float, more: Sequence[str] = (), counts: str = "") -> str:
    """Run a firmware under QEMU, with more options of QEMU; return what it and QEMU print. Parameters and errors as of `call`."""
    return call([*board.emulator, *EMULATOR_OPTIONS, *more, "-kernel", str(firmware)], folder, timeout, f"run the firmware on {board.name}", counts)


def build_project(folder: Path, board: Board, place: Path, timeout: float) -> None:
    """Build ``firmware.elf`` of a project, to be run, in another folder, which must be empty.

    Raises
    ------
    TargetError
        The compiler fails, or QEMU does not know the board.
    ToolchainError
        The compiler or QEMU is not installed.
    """
    require_tools(board, runs=True)
    for file in folder.iterdir():
        if file.is_file() and file.suffix not in (".elf", ".map"):
            shutil.copyfile(file, place / file.name)
    call(["make", "-s"], place, timeout, "build the firmware")


def run_project(folder: Path, samples: Sequence[Mapping[str, np.ndarray]], timeout: float = 300.0) -> list[dict[str, np.ndarray]]:
    """Build a project in a temporary folder, run it under QEMU, and return the outputs of each sample by name.

    Parameters
    ----------
    folder : Path
        What ``bnncc project`` wrote.
    samples : sequence of mapping of str to ndarray
        Inputs by name, of the model's shapes and dtypes.
    timeout : float
        For all samples, in seconds.

    Raises
    ------
    LibraryError
        The folder is no project.
    TargetError
        QEMU does not know the board, or the firmware cannot be built, hangs or faults.
    ToolchainError
        The cross compiler or QEMU is not installed.
    """
    folder = Path(folder)
    if not is_project(folder):
        raise LibraryError(f"{folder} is no firmware project; `bnncc project MODEL.onnx --board BOARD -o {folder}` writes one.")
    metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    board = find_board(metadata["board"])
    with tempfile.TemporaryDirectory(prefix="bnncc-board-") as temporary:
        place = Path(temporary)
        build_project(folder, board, place, timeout)
        content = b"".join(np.ascontiguousarray(sample[t["name"]]).tobytes() for sample in samples for t in metadata["inputs"])
        (place / "input.bin").write_bytes(content)
        emulate(board, place / "firmware.elf", place, timeout)
        made = (place / "output.bin").read_bytes()
    results, at = [], 0
    for _ in samples:
        outputs = {}
        for tensor in metadata["outputs"]:
            size = int(np.prod(tensor["shape"], dtype=np.int64)) * np.dtype(tensor["dtype"]).itemsize
            if at + size > len(made):
                raise TargetError(f"The firmware on {board.name} wrote {len(made)} bytes of output, fewer than {len(samples)} samples have.")
            outputs[tensor["name"]] = np.frombuffer(made[at : at + size], tensor["dtype"]).reshape(tensor["shape"])
            at += size
        results.append(outputs)
    return results
