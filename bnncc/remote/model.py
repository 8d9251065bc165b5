"""A compiled model on a device: TVM's RPC server takes the library and a bridge to it, and calls its entries on the device's memory."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.errors import InternalError, TargetError, ToolchainError
from bnncc.remote.session import Device, Session
from bnncc.runtime.library import Library, checked_library
from bnncc.runtime.model import CompiledModel
from bnncc.toolchain import find_compiler

__all__ = ["Machine", "RemoteModel", "load_remote"]

_BRIDGE = Path(__file__).with_name("bridge.c")
_NO_VARIANT = -1000
_MOST_TENSORS = 64  # of an entry; MOST in bridge.c
_HEAD_BYTES = 4096  # of a file of the device
_EMULATOR = b"/proc/thread-self/exe"  # what really runs there; qemu answers for /proc/self itself
_ELF_MACHINE = slice(18, 20)


@dataclass(frozen=True)
class Machine:
    """What a device says of itself: its name, and whether a program of another processor, an emulator, runs what runs there."""

    name: str
    emulated: bool


class _Calls:
    """The entries of a library that a session has loaded."""

    def __init__(self, device: Device, file: Path, metadata: dict, bridge: Path):
        self.device, self._file, self._metadata = device, file, metadata
        self._numbers = {entry: number for number, entry in enumerate(metadata["entries"])}
        self._workspaces: dict = {}
        self._session = Session(device)
        self._module = self._session.do("The library was not taken by", lambda: self._upload(file, bridge))

    def _upload(self, *files: Path):
        session = self._session.tvm
        for file in files:
            session.upload(str(file), target=file.name)
        module = session.load_module(files[-1].name)
        for file in files:
            session.remove(file.name)  # what is loaded needs its file no more, and so none stays behind whatever happens
        return module

    def _sent(self, *contents: bytes) -> list:
        from tvm.runtime import tensor

        return [tensor(np.frombuffer(content or b"\0", np.uint8), self._session.tvm.cpu()) for content in contents]

    def _room(self, *sizes: int) -> list:
        """Return tensors of the device that hold anything; it aligns them as a workspace wants it."""
        from tvm.runtime import empty

        return [empty((max(size, 1),), "uint8", self._session.tvm.cpu()) for size in sizes]

    def _arguments(self, entry: str, inputs: Sequence[np.ndarray], sizes: Sequence[int]) -> list:
        """Return what an entry is called with: its number, a workspace, inputs, and outputs of so many bytes."""
        if entry not in self._workspaces:  # one for all calls, as a session makes one after the other
            self._workspaces[entry], = self._room(self._metadata["entries"][entry]["workspace_bytes"])
        return [self._numbers[entry], self._workspaces[entry], *self._sent(*(a.tobytes() for a in inputs)), *self._room(*sizes)]

    def entry(self, name: str):
        """Return an entry as a function of inputs, outputs and workspace that gives the C function's code."""

        def call(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], _workspace: np.ndarray) -> int:
            def action():
                arguments = self._arguments(name, inputs, [array.nbytes for array in outputs])
                code = int(self._module["bnncc_call"](*arguments))
                if code == 0:
                    for array, given in zip(outputs, arguments[2 + len(inputs) :], strict=True):
                        array[...] = np.frombuffer(given.numpy().tobytes()[: array.nbytes], array.dtype).reshape(array.shape)
                return code

            code = self._session.do("There is no answer from", action)
            if code == _NO_VARIANT:
                raise TargetError(f"{self.device} lacks instructions that {self._file.name}, compiled for {self._metadata['target']}, needs.")
            return code

        return call

    def read(self, path: bytes) -> bytes:
        """Return the beginning of a file of the device; nothing where there is none."""

        def action():
            name, content = *self._sent(path + b"\0"), *self._room(_HEAD_BYTES)
            length = int(self._module["bnncc_read"](name, content))
            return content.numpy().tobytes()[:length]

        return self._session.do("There is no answer from", action)

    def timer(self, inputs: Sequence[np.ndarray], sizes: Sequence[int]) -> Callable[[int], float]:
        """Return a function of a number of calls of ``main`` that gives the mean seconds of one, by TVM's time evaluator on the device."""
        arguments = self._session.do("There is no answer from", lambda: self._arguments("main", inputs, sizes))

        def seconds(calls: int) -> float:
            def action():
                return self._module.time_evaluator("bnncc_call", self._session.tvm.cpu(), number=calls, repeat=1)(*arguments)

            return float(self._session.do("There is no answer from", action).results[0])

        return seconds


class RemoteModel(CompiledModel):
    """A compiled model on a device.

    Attributes
    ----------
    machine : Machine
        What the device says of itself.
    """

    def __init__(self, library: Library, calls: _Calls, machine: Machine):
        super().__init__(library)
        self._calls = calls
        self.machine = machine

    def timer(self, inputs: Mapping[str, np.ndarray]) -> Callable[[int], float]:
        """Return a function of a number of calls that gives the mean seconds of one on the device, measured there.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            By name, one sample.
        """
        self(inputs)  # what is wrong with them is told by a plain call
        return self._calls.timer([inputs[spec.name] for spec in self.inputs], [np.empty(spec.shape, spec.dtype).nbytes for spec in self.outputs])


def load_remote(path: str | Path, device: Device) -> RemoteModel:
    """Return a compiled model that runs on a device.

    Parameters
    ----------
    path : str or Path
        The folder of a compiled model, or the library in it.
    device : Device

    Raises
    ------
    DeviceError
        The device cannot be reached, does not answer in time, refuses the key, or ends the session.
    LibraryError
        There is no compiled model.
    ToolchainError
        There is no compiler for the device's processor.
    """
    device.place  # noqa: B018  an address that is none is told before anything is compiled
    file, metadata = checked_library(Path(path))
    with tempfile.TemporaryDirectory(prefix="bnncc-rpc-") as temporary:
        calls = _Calls(device, file, metadata, _build_bridge(metadata, file, Path(temporary)))
    machine = _machine(calls, file)
    functions = {entry: calls.entry(entry) for entry in metadata["entries"]}
    where = f"{metadata['target']}, on {device}: {machine.name}{', emulated' if machine.emulated else ''}"
    return RemoteModel(Library(file, metadata, functions, where, lambda code: b"an error of the library"), calls, machine)


def _build_bridge(metadata: dict, library: Path, folder: Path) -> Path:
    bridge = folder / "bridge.so"
    entries = metadata["entries"].values()
    for entry in entries:
        if len(entry["inputs"]) + len(entry["outputs"]) > _MOST_TENSORS:
            raise InternalError(f"{entry['symbol']} takes more than {_MOST_TENSORS} tensors.")
    rows = " ".join(f"X({entry['symbol']}, {len(entry['inputs'])})" for entry in entries)
    (folder / "entries.h").write_text(f"#define ENTRIES {rows}\n#define VARIANT {metadata['name']}_variant\n", encoding="utf-8")
    options = ["-O2", "-shared", "-fPIC", f"-I{folder}", "-Wl,-rpath,$ORIGIN"]
    command = [*find_compiler(metadata["triple"]), *options, "-o", str(bridge), str(_BRIDGE), str(library)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ToolchainError(f"The bridge for the device cannot be compiled by `{command[0]}`: {done.stderr.strip()[-500:]}")
    return bridge


def _machine(calls: _Calls, file: Path) -> Machine:
    model = calls.read(b"/proc/device-tree/model").rstrip(b"\0").decode(errors="replace").strip()
    cpu = calls.read(b"/proc/cpuinfo").decode(errors="replace")
    name = model or next((line.split(":", 1)[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "a processor that gives no name")
    program = calls.read(_EMULATOR)
    with file.open("rb") as library:
        ours = library.read(_HEAD_BYTES)
    return Machine(name, bool(program) and program[_ELF_MACHINE] != ours[_ELF_MACHINE])
