"""TVM's RPC server and tracker as processes on loopback, and a relay before a server that cuts or stops a session where a test wants it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Program", "Relay", "free_port", "rpc_server", "rpc_tracker"]


@dataclass
class Program:
    """A running server or tracker; what its sessions leave behind lies in `files`."""

    process: subprocess.Popen
    address: str
    files: Path
    log: Path

    def kill(self) -> None:
        """Kill it and all that it started, as a board that loses its power does."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def left(self, seconds: float = 20) -> list[str]:
        """Return the files of its sessions, after they had this time to go."""
        end = time.monotonic() + seconds
        while (left := self._files()) and time.monotonic() < end:
            time.sleep(0.1)
        return left

    def _files(self) -> list[str]:
        while True:
            try:
                return [str(file.relative_to(self.files)) for file in self.files.rglob("*")]
            except FileNotFoundError:  # a folder went while it was read
                pass


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _running(module: str, folder: Path, python: str, options: list[str], seconds: float, port: int = 0) -> Iterator[Program]:
    port, files, log = port or free_port(), folder / "files", folder / "log"
    files.mkdir(parents=True)
    command = [python, "-m", module, "--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1), *options]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, "TMPDIR": str(files)})
    program = Program(process, f"127.0.0.1:{port}", files, log)
    try:
        end = time.monotonic() + seconds
        while "bind to" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield program
    finally:
        program.kill()


def rpc_server(folder: Path, key: str = "board", tracker: str | None = None, python: str = sys.executable, seconds: float = 120, lasting: bool = False):
    """Start TVM's server, or the one of `bnncc.remote.serve`, in another Python where one is given, and wait until it listens."""
    options = ["--key", key, *(["--tracker", tracker] if tracker else [])]
    return _running("bnncc.remote.serve" if lasting else "tvm.exec.rpc_server", folder, python, options, seconds)


def rpc_tracker(folder: Path, port: int = 0, seconds: float = 120):
    """Start a tracker, at this port where one is given, and wait until it listens."""
    return _running("tvm.exec.rpc_tracker", folder, sys.executable, [], seconds, port)


class Relay:
    """Stands before a server and passes bytes on, until `most` bytes came from the client: then it stops without a word, or hangs up.

    It is a process of its own (relay.py): what waits in this one may hold Python's lock.

    Parameters
    ----------
    address : str
        The server's.
    most : int
        Without it everything passes until `stop`.
    hang_up : bool
    """

    def __init__(self, address: str, most: int = 1 << 40, hang_up: bool = False):
        command = [sys.executable, str(Path(__file__).with_name("relay.py")), address, str(most), str(int(hang_up))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = f"127.0.0.1:{self._process.stdout.readline().strip()}"

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error) -> None:
        self.end()

    def stop(self) -> None:
        """Let no more bytes pass."""
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == "stopped"

    def end(self) -> None:
        """Hang up on both sides."""
        self._process.kill()
        self._process.communicate()
