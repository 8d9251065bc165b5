"""Libraries of another architecture: a small program of that architecture loads them under an emulator and is spoken to over pipes (runner.c)."""

from __future__ import annotations

import struct
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bnncc.errors import LibraryError, ToolchainError
from bnncc.toolchain import find_compiler, find_emulator

__all__ = ["Emulator"]

_SOURCE = Path(__file__).with_name("runner.c")
_TEXT, _RUN = 0, 1
_LAST_LINES = 5


class Emulator:
    """A library open in an emulated process, which ends with this object.

    Parameters
    ----------
    library : Path
    triple : str
        What it was compiled for.
    alignment : int
        Of the workspace, in bytes.

    Raises
    ------
    ToolchainError
        There is no emulator or cross compiler, or the compiler failed.
    """

    def __init__(self, library: Path, triple: str, alignment: int):
        self._library, self._alignment = library, alignment
        self._lock = threading.Lock()  # one request after the other
        folder = tempfile.TemporaryDirectory(prefix="bnncc-emulator-")
        emulator = find_emulator(triple)
        runner = _build_runner(triple, Path(folder.name))
        self._errors = open(Path(folder.name, "errors"), "w+b")  # noqa: SIM115  lives as long as the process
        command = [*emulator, str(runner), str(library.resolve())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        weakref.finalize(self, _end, self._process, self._errors, folder)

    def text(self, symbol: str, argument: int = 0) -> bytes | None:
        """Call a C function that takes an int32 or nothing and returns a string."""
        name = symbol.encode()
        with self._lock:
            self._send(struct.pack("<qq", _TEXT, len(name)), name, struct.pack("<q", argument))
            length = self._number()
            return None if length < 0 else self._receive(length)

    def function(self, symbol: str, workspace_bytes: int) -> Callable[[Sequence[np.ndarray], Sequence[np.ndarray], int], int]:
        """Return an entry of the library as a function of inputs and outputs; the workspace it is given stays unused, as the process has its own."""
        name = symbol.encode()

        def call(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], _workspace: int) -> int:
            sizes = [array.nbytes for array in (*inputs, *outputs)]
            numbers = [workspace_bytes, self._alignment, len(inputs), len(outputs), *sizes]
            with self._lock:
                self._send(struct.pack("<qq", _RUN, len(name)), name, struct.pack(f"<{len(numbers)}q", *numbers), *(a.tobytes() for a in inputs))
                code = self._number()
                for array in outputs:
                    array[...] = np.frombuffer(self._receive(array.nbytes), array.dtype).reshape(array.shape)
            return code

        return call

    def _send(self, *parts: bytes) -> None:
        try:
            self._process.stdin.write(b"".join(parts))
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def _receive(self, size: int) -> bytes:
        content = self._process.stdout.read(size)
        if len(content) != size:
            raise self._ended()
        return content

    def _number(self) -> int:
        return struct.unpack("<q", self._receive(8))[0]

    def _ended(self) -> LibraryError:
        code = self._process.wait()
        self._errors.seek(0)
        last = " ".join(self._errors.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:])
        return LibraryError(f"The emulated process that runs {self._library} has ended (exit {code}): {last or 'it said nothing'}.")


def _build_runner(triple: str, folder: Path) -> Path:
    runner = folder / "runner"
    command = [*find_compiler(triple), "-O2", "-o", str(runner), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ToolchainError(f"The runner for emulated libraries cannot be compiled by `{command[0]}`: {done.stderr.strip()[-500:]}")
    return runner


def _end(process: subprocess.Popen, errors, folder: tempfile.TemporaryDirectory) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout, errors):
        try:
            stream.close()
        except OSError:
            pass  # what was still to be flushed to a dead process
    process.wait()
    folder.cleanup()
