"""A compiled model on a device: TVM's RPC server takes the library and a bridge to it, and calls its entries on the device's memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bnncc.errors import InternalError, TargetError
from bnncc.remote.library import Machine, RemoteLibrary, compile_for_device
from bnncc.remote.session import Device
from bnncc.runtime.library import Library, checked_library
from bnncc.runtime.model import CompiledModel

__all__ = ["RemoteModel", "load_remote"]

_BRIDGE = Path(__file__).with_name("bridge.c")
_NO_VARIANT = -1000
_MOST_TENSORS = 512  # of an entry; MOST in bridge.c


class _Calls:
    """The entries of a compiled model on a device."""

    def __init__(self, device: Device, file: Path, metadata: dict, bridge: Path):
        self.library = RemoteLibrary(device, bridge, [file])
        self._device, self._file, self._metadata = device, file, metadata
        self._numbers = {entry: number for number, entry in enumerate(metadata["entries"])}
        self._workspaces: dict = {}

    def _arguments(self, entry: str, inputs: Sequence[np.ndarray], sizes: Sequence[int]) -> list:
        """Return what an entry is called with: its number, a workspace, inputs, and outputs of so many bytes."""
        if entry not in self._workspaces:  # one for all calls, as a session makes one after the other
            [self._workspaces[entry]] = self.library.room(self._metadata["entries"][entry]["workspace_bytes"])
        return [self._numbers[entry], self._workspaces[entry], *self.library.sent(*(a.tobytes() for a in inputs)), *self.library.room(*sizes)]

    def entry(self, name: str):
        """Return an entry as a function of inputs, outputs and workspace that gives the C function's code."""

        def call(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], _workspace: int) -> int:
            arguments = self._arguments(name, inputs, [array.nbytes for array in outputs])
            code = self.library.call("bnncc_call", *arguments)
            if code == _NO_VARIANT:
                raise TargetError(f"{self._device} lacks instructions that {self._file.name}, compiled for {self._metadata['target']}, needs.")
            if code == 0:
                for array, given in zip(outputs, arguments[2 + len(inputs) :], strict=True):
                    array[...] = np.frombuffer(self.library.fetched(given, array.nbytes), array.dtype).reshape(array.shape)
            return code

        return call

    def timer(self, inputs: Sequence[np.ndarray], sizes: Sequence[int]) -> Callable[[int], float]:
        """Return a function of a number of calls of ``main`` that gives the mean seconds of one."""
        arguments = self._arguments("main", inputs, sizes)
        return lambda calls: self.library.seconds("bnncc_call", calls, *arguments)


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
    machine = calls.library.machine()
    functions = {entry: calls.entry(entry) for entry in metadata["entries"]}
    where = f"{metadata['target']}, on {device}: {machine}"
    return RemoteModel(Library(file, metadata, functions, where, lambda code: b"an error of the library"), calls, machine)


def _build_bridge(metadata: dict, library: Path, folder: Path) -> Path:
    bridge = folder / "bridge.so"
    entries = metadata["entries"].values()
    for entry in entries:
        if len(entry["inputs"]) + len(entry["outputs"]) > _MOST_TENSORS:
            raise InternalError(f"{entry['symbol']} takes more than {_MOST_TENSORS} tensors.")
    rows = " ".join(f"X({entry['symbol']}, {len(entry['inputs'])})" for entry in entries)
    (folder / "entries.h").write_text(f"#define ENTRIES {rows}\n#define VARIANT {metadata['name']}_variant\n", encoding="utf-8")
    compile_for_device(metadata["triple"], _BRIDGE, bridge, f"-I{folder}", library)
    return bridge
