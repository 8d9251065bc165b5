"""A session with a board: TVM's RPC server takes the library and a bridge to it, and calls its entry on the board's memory."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bnncc.errors import LibraryError, ToolchainError
from bnncc.runtime.library import Library, checked_library
from bnncc.runtime.model import CompiledModel
from bnncc.toolchain import find_compiler

__all__ = ["load_remote"]

_BRIDGE = Path(__file__).with_name("bridge.c")
_NO_VARIANT = -1000


def _within(seconds: float, what: str, action: Callable):
    """Return what `action` returns, or raise LibraryError where it fails or has not ended in time; a call that hangs ends with this process."""
    outcome: list = []

    def run():
        try:
            outcome.append((action(), None))
        except Exception as error:  # noqa: BLE001  whatever TVM raises is the board's answer
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise LibraryError(
            f"{what} within {seconds:g} s. Is a server (`python -m tvm.exec.rpc_server`) running there, with that key, and not busy with another session?"
        )
    result, error = outcome[0]
    if error is not None:
        said = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise LibraryError(f"{what}: {said}. Check host, port and key, and that the server still runs.") from error
    return result


def _build_bridge(metadata: dict, library: Path, folder: Path) -> Path:
    bridge = folder / "bridge.so"
    entry = metadata["entries"]["main"]
    defines = [f"-DENTRY={entry['symbol']}", f"-DVARIANT={metadata['name']}_variant", f"-DINPUTS={len(entry['inputs'])}"]
    command = [*find_compiler(metadata["triple"]), "-O2", "-shared", "-fPIC", *defines, "-o", str(bridge), str(_BRIDGE), str(library), "-Wl,-rpath,$ORIGIN"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ToolchainError(f"The bridge for the board cannot be compiled by `{command[0]}`: {done.stderr.strip()[-500:]}")
    return bridge


def load_remote(path: Path, address: str, key: str, timeout: float = 60.0, tracker: bool = False) -> CompiledModel:
    """Return a compiled model that runs on a board.

    Parameters
    ----------
    path : Path
        The folder of a compiled model.
    address : str
        ``host:port`` of an RPC server.
    key : str
        The server's key.
    timeout : float
        Seconds that connecting with uploading, and each call, may take.
    tracker : bool
        Whether the address is that of a tracker, which knows boards by key, and not that of a board.

    Raises
    ------
    LibraryError
        The board does not answer in time, refuses the key, or ends the session.
    ToolchainError
        There is no compiler for the board's processor.
    """
    file, metadata = checked_library(path)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise LibraryError(f"{address!r} is no address of a board; give host:port, such as 192.168.1.20:9090.")
    with tempfile.TemporaryDirectory(prefix="bnncc-rpc-") as temporary:
        bridge = _build_bridge(metadata, file, Path(temporary))

        def connect():
            from tvm import rpc

            session = rpc.connect_tracker(host, int(port)).request(key, max_retry=1) if tracker else rpc.connect(host, int(port), key)
            session.upload(str(file), target=file.name)
            session.upload(str(bridge), target=bridge.name)
            return session, session.load_module(bridge.name)["bnncc_call"]

        session, call = _within(timeout, f"The board at {address} with the key {key!r} did not take the library", connect)

    def on_board(inputs, outputs, workspace):
        from tvm.runtime import tensor

        def action():
            device = session.cpu()
            flat = [np.frombuffer(a.tobytes() or b"\0", np.uint8) for a in (workspace, *inputs, *outputs)]
            held = [tensor(a, device) for a in flat]
            code = int(call(*held))
            if code == 0:
                for array, given in zip(outputs, held[1 + len(inputs) :], strict=True):
                    array[...] = np.frombuffer(given.numpy().tobytes()[: array.nbytes], array.dtype).reshape(array.shape)
            return code

        code = _within(timeout, f"The board at {address} did not answer", action)
        if code == _NO_VARIANT:
            raise LibraryError(f"The board at {address} lacks instructions that {file.name}, compiled for {metadata['target']}, needs.")
        return code

    return CompiledModel(Library(file, metadata, {"main": on_board}, f"{metadata['target']}, on {address}", lambda code: b"an error of the library"))
