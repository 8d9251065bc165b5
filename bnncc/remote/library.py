"""A library that a session has loaded on its device: files up, tensors of bytes there, functions of C that TVM's RPC server calls."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.errors import ToolchainError
from bnncc.remote.session import Device, Session
from bnncc.toolchain import find_compiler

__all__ = ["Machine", "RemoteLibrary", "compile_for_device"]

_HEAD_BYTES = 4096  # of a file of the device
_EMULATOR = b"/proc/thread-self/exe"  # what really runs there; qemu answers for /proc/self itself
_ELF_MACHINE = slice(18, 20)
_NO_ANSWER = "There is no answer from"


def compile_for_device(triple: str, source: Path, output: Path, *more: str | Path) -> None:
    """Compile a C file, which may include server_call.h, to a library for a device.

    Raises
    ------
    ToolchainError
        There is no compiler for the device's processor, or it failed.
    """
    options = ["-std=gnu99", "-O2", "-shared", "-fPIC", f"-I{Path(__file__).parent}", "-Wl,-rpath,$ORIGIN"]
    command = [*find_compiler(triple), *options, "-o", str(output), str(source), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ToolchainError(f"{source.name} for the device cannot be compiled by `{command[0]}`: {done.stderr.strip()[-500:]}")


@dataclass(frozen=True)
class Machine:
    """What a device says of itself: its name, whether a program of another processor, an emulator, runs what runs there, and its processor's features."""

    name: str
    emulated: bool
    features: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name + ", emulated" * self.emulated


class RemoteLibrary:
    """Functions of a library on a device.

    Parameters
    ----------
    device : Device
    file : Path
        The library, compiled by `compile_for_device`.
    beside : sequence of Path
        Libraries that it links.

    Raises
    ------
    DeviceError
        As of `Session`; of every method, too.
    """

    def __init__(self, device: Device, file: Path, beside: Sequence[Path] = ()):
        with file.open("rb") as content:
            self._elf_machine = content.read(_HEAD_BYTES)[_ELF_MACHINE]
        self._session = Session(device)
        self._module = self._session.do("The library was not taken by", lambda: self._load(file, beside))

    def _load(self, file: Path, beside: Sequence[Path]):
        session = self._session.tvm
        for each in (*beside, file):
            session.upload(str(each), target=each.name)
        module = session.load_module(file.name)
        for each in (*beside, file):
            session.remove(each.name)  # what is loaded needs its file no more, and so none stays behind whatever happens
        return module

    def do(self, action: Callable):
        """Return what `action` returns, a step of the session."""
        return self._session.do(_NO_ANSWER, action)

    def upload(self, file: Path, name: str) -> str:
        """Put a file on the device and return its path there."""
        self.do(lambda: self._session.tvm.upload(str(file), target=name))
        return str(self.do(lambda: self._session.tvm.get_function("tvm.rpc.server.workpath")(name)))

    def remove(self, name: str) -> None:
        """Remove a file from the device."""
        self.do(lambda: self._session.tvm.remove(name))

    def sent(self, *contents: bytes) -> list:
        """Return tensors of the device that hold these bytes."""
        from tvm.runtime import tensor

        return [self.do(lambda c=c: tensor(np.frombuffer(c or b"\0", np.uint8), self._session.tvm.cpu())) for c in contents]

    def room(self, *sizes: int) -> list:
        """Return tensors of the device that hold anything; it aligns them as a workspace wants it."""
        from tvm.runtime import empty

        return [self.do(lambda n=n: empty((max(n, 1),), "uint8", self._session.tvm.cpu())) for n in sizes]

    def fetched(self, tensor, size: int) -> bytes:
        """Return the first bytes of a tensor of the device."""
        return self.do(lambda: tensor.numpy().tobytes()[:size])

    def call(self, function: str, *arguments) -> int:
        """Call a function of the library."""
        return int(self.do(lambda: self._module[function](*arguments)))

    def seconds(self, function: str, calls: int, *arguments) -> float:
        """Return the mean time of a call by TVM's time evaluator on the device."""

        def action():
            return self._module.time_evaluator(function, self._session.tvm.cpu(), number=calls, repeat=1)(*arguments)

        return float(self.do(action).results[0])

    def read(self, path: bytes) -> bytes:
        """Return the beginning of a file of the device; nothing where there is none."""
        name, content = *self.sent(path + b"\0"), *self.room(_HEAD_BYTES)
        length = self.call("bnncc_read", name, content)
        return self.fetched(content, length)

    def machine(self) -> Machine:
        """Ask the device what it is."""
        model = self.read(b"/proc/device-tree/model").rstrip(b"\0").decode(errors="replace").strip()
        cpu = self.read(b"/proc/cpuinfo").decode(errors="replace")
        name = model or next((line.split(":", 1)[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "a processor without a name")
        program = self.read(_EMULATOR)
        flags = next((line.split(":", 1)[1].split() for line in cpu.splitlines() if line.startswith(("flags", "Features"))), [])
        return Machine(name, bool(program) and program[_ELF_MACHINE] != self._elf_machine, frozenset(flags))
