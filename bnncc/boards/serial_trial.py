"""A trial on a real board: a firmware that runs a compiled model on samples, flashed by the command that the board's manifest names; the answer comes over a
serial port."""

from __future__ import annotations

import os
import re
import secrets
import select
import termios
import time
import tty
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.boards.manifest import Board
from bnncc.boards.project import write_project
from bnncc.boards.runner import call
from bnncc.codegen.c_text import template_environment
from bnncc.errors import DeviceError, TargetError

__all__ = ["Answer", "check_board", "run_trial", "serial_port"]

_WORD = 8
_WRAP = 1 << 24  # of the counter
_SHOWN = 80
_BUILD_SECONDS = 300.0  # that building and flashing may take, each


@dataclass(frozen=True)
class Answer:
    """What a board said of a trial.

    Parameters
    ----------
    sums : tuple of int
        CRC-32 of each output, sample by sample.
    cycles : int
        Of the processor's clock, one run of the first sample.
    wrong : str
        What a run did beside its outputs; empty where nothing.
    """

    sums: tuple[int, ...]
    cycles: int
    wrong: str


@contextmanager
def serial_port(path: Path):
    """Open a serial port, 115200 baud, 8 bits, no parity; gives its file descriptor.

    Raises
    ------
    DeviceError
        It cannot be opened, or is none.
    """
    try:
        port = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise DeviceError(
            f"The serial port {path} cannot be opened: {error.strerror}. Name the one that the board's debugger appears as, /dev/ttyACM0 for instance; "
            "on Debian its user must be in the group dialout."
        ) from error
    try:
        tty.setraw(port)
        found = termios.tcgetattr(port)
        found[4] = found[5] = termios.B115200
        termios.tcsetattr(port, termios.TCSANOW, found)
        termios.tcflush(port, termios.TCIOFLUSH)  # what another firmware said
        yield port
    except termios.error as error:
        raise DeviceError(f"{path} is no serial port: {error.args[-1]}.") from error
    finally:
        os.close(port)


def _read(port: int, path: Path, token: str, timeout: float) -> str:
    """Return what a board says from the beginning of its answer to the end.

    Raises
    ------
    DeviceError
        It says nothing, no end, or something else.
    """
    said, last = b"", time.monotonic() + timeout
    while (left := last - time.monotonic()) > 0:
        ready, _, _ = select.select([port], [], [], left)
        try:
            more = os.read(port, 4096) if ready else b""
        except OSError as error:
            raise DeviceError(f"The serial port {path} went away while the board was to answer: {error.strerror}.") from error
        said += more
        text = said.decode("ascii", errors="replace")
        if f"end {token}" in text:
            if f"trial {token}" in text:
                return text.partition(f"trial {token}")[2].partition(f"end {token}")[0]
            break
        if ready and not more:
            time.sleep(0.05)  # the other side of the port is closed
    if not said:
        raise DeviceError(
            f"The board said nothing on {path} within {timeout:g} s of being flashed. "
            "Is this the port of its debugger, and does the manifest's uart stand for it?"
        )
    shown = said[-_SHOWN:].decode("ascii", errors="backslashreplace")
    if f"trial {token}" in said.decode("ascii", errors="replace"):
        raise DeviceError(f"The board began its answer on {path} and did not end it within {timeout:g} s; the last of it: {shown!r}.")
    raise DeviceError(f"What the board said on {path} is no answer to this trial: {shown!r}. Does it run at 115200 baud, and was it flashed?")


def _parsed(text: str, path: Path, samples: int, outputs: int) -> Answer:
    """Return the answer; a line that got lost on the way is no wrong output.

    Raises
    ------
    DeviceError
        It has not the lines that so many samples with so many outputs make.
    """
    rows = re.findall(r"^(code|sum|wraps|before|after) ([0-9a-f]{8})\r?$", text, re.M)
    values = {name: [int(value, 16) for key, value in rows if key == name] for name in ("code", "sum", "wraps", "before", "after")}
    if {name: len(found) for name, found in values.items()} != {"code": samples, "sum": samples * outputs, "wraps": 1, "before": 1, "after": 1}:
        raise DeviceError(
            f"The answer of the board on {path} is damaged: {text.strip()[:_SHOWN]!r}. Does another program read the port, or is the cable loose? Run it again."
        )
    wrong = next((f"it returned {code}" for code in values["code"] if code), "")
    if outside := re.search(r"^outside (\d+)", text, re.M):
        wrong = f"it wrote outside of output {outside[1]}"
    (wraps,), (before,), (after,) = (values[name] for name in ("wraps", "before", "after"))
    return Answer(tuple(values["sum"]), wraps * _WRAP + before - after, wrong)


def run_trial(board: Board, port: Path, compiled: Path, samples: Sequence[Sequence[np.ndarray]], folder: Path, timeout: float) -> Answer:
    """Build, flash and run a trial.

    Parameters
    ----------
    board : Board
        With a serial port and a programmer.
    port : Path
        Where its serial port appears.
    compiled : Path
        Folder that `emit_c` wrote for the board's target.
    samples : sequence of sequence of ndarray
        Inputs in order.
    folder : Path
        An empty one, for the firmware.
    timeout : float
        Seconds that the board may take to answer.

    Raises
    ------
    BudgetError, ToolchainError
    TargetError
        The compiler or the programmer failed; the trial does not fit the board's flash.
    DeviceError
        The port is none, or the board says nothing, no end, or something else.
    """
    project = folder / "project"
    metadata = write_project(board, compiled, project)
    token = secrets.token_hex(4)
    environment = template_environment(Path(__file__).parent)
    context = {
        **{"name": metadata["name"], "macro": metadata["name"].upper(), "token": token, "count": len(samples)},
        "outputs": [int(np.prod(t["shape"], dtype=np.int64)) * np.dtype(t["dtype"]).itemsize for t in metadata["outputs"]],
        "samples": [[_words(sample[i]) for sample in samples] for i in range(len(metadata["inputs"]))],
    }
    (project / "main.c").write_text(environment.get_template("trial.c.j2").render(context), encoding="utf-8")
    call(["make", "-s", "firmware.elf", "firmware.hex"], project, _BUILD_SECONDS, "build the firmware")
    files = {"elf": project / "firmware.elf", "hex": project / "firmware.hex"}
    with serial_port(port) as opened:  # before the board starts, so that nothing it says is lost
        call([part.format(**files) for part in board.programmer], project, _BUILD_SECONDS, f"flash {board.name}")
        return _parsed(_read(opened, port, token, timeout), port, len(samples), len(context["outputs"]))


def _words(array: np.ndarray) -> list[str]:
    content = np.ascontiguousarray(array).tobytes()
    return [f"0x{word:x}ull" for word in np.frombuffer(content + bytes(-len(content) % _WORD), "<u8").tolist()]


def check_board(board: Board) -> None:
    """Tell whether trials run on a board.

    Raises
    ------
    TargetError
        It has no serial port that is set up, no programmer, or no counter of cycles.
    """
    missing = [] if board.uart else ["a serial port that is set up (uart)"]
    missing += [] if board.programmer else ["a command that flashes it (programmer)"]
    missing += ["the counter of Arm's cores"] if board.target.startswith("riscv") else []
    if missing:
        raise TargetError(
            f"{board.name} cannot be measured over a serial port: it lacks {' and '.join(missing)}. A board's manifest is a file of bnncc/boards/manifests."
        )
