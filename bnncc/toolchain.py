"""Programs of the machine that compiles: a C compiler for each processor, and an emulator for those that are not here."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path

from bnncc.errors import ToolchainError

__all__ = ["architecture", "bare_metal_prefix", "find_compiler", "find_emulator", "is_native", "system_of"]

_NATIVE = ("cc", "gcc", "clang")


def architecture(triple: str) -> str:
    """Return the processor architecture of a triple, as ``platform.machine`` spells it on Linux."""
    return triple.partition("-")[0]


def system_of(triple: str) -> str:
    """Return the operating system of a triple: ``linux``, ``macos``, ``windows``, or nothing for a microcontroller."""
    return next(system for system in ("linux", "macos", "windows", "") if system in triple)


def bare_metal_prefix(triple: str) -> str:
    """Return what the names of GCC's programs for a microcontroller start with; one for RISC-V serves 32 and 64 bits."""
    return "riscv64-unknown-elf-" if triple.startswith("riscv") else f"{triple}-"


def _zig_target(triple: str) -> str:
    """Return a triple as zig spells it, which knows no vendors: architecture, system, and the C library where there are several."""
    after = triple[triple.index(system_of(triple)) :]
    return f"{architecture(triple)}-{after}"


def is_native(triple: str) -> bool:
    """Tell whether the machine at hand has the architecture and the operating system of a triple."""
    here = platform.machine()
    if {"Darwin": "macos"}.get(platform.system(), platform.system().lower()) != system_of(triple):
        return False
    return architecture(triple) == {"AMD64": "x86_64", "arm64": "aarch64"}.get(here, here)


def find_compiler(triple: str) -> list[str]:
    """Return the command of a C compiler.

    For the architecture at hand the environment variable CC goes first (it may hold options), then ``cc``, ``gcc`` and ``clang``; for another one the
    cross compiler ``<triple>-gcc``. Where there is none, ``python -m ziglang cc``.

    Parameters
    ----------
    triple : str
        What to compile for; zig is told, as it would take every instruction of this very machine otherwise.

    Raises
    ------
    ToolchainError
        There is none, or CC names none.
    """
    here = is_native(triple)
    wanted = os.environ.get("CC", "").strip() if here else ""
    if wanted:
        try:
            command = shlex.split(wanted)
        except ValueError as error:
            raise ToolchainError(f"The environment variable CC is {wanted!r}, which is no command line ({error}).") from error
        if shutil.which(command[0]) is None:
            raise ToolchainError(
                f"The environment variable CC is {wanted!r}, but there is no such program. Unset it, or set it to an installed C compiler."
            )
        return command
    for name in _NATIVE if here else (f"{triple}-gcc",):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", _zig_target(triple)]
    if system_of(triple) != "linux":
        raise ToolchainError(
            f"No C compiler for {triple} was found; bnncc needs the Python package ziglang to link a library for another operating system. "
            "Run `pip install ziglang`."
        )
    if not here:
        raise ToolchainError(
            f"No C compiler for {triple} was found ({triple}-gcc or the Python package ziglang); bnncc needs one to link a library. "
            f"Install it (Debian, Ubuntu: `apt install {_cross_packages(triple)}`) or run `pip install ziglang`."
        )
    raise ToolchainError(
        "No C compiler was found (cc, gcc, clang or the Python package ziglang); bnncc needs one to link a library. "
        "Install gcc (Debian, Ubuntu: `apt install gcc libc6-dev`) or run `pip install ziglang`."
    )


def _cross_packages(triple: str) -> str:
    debian = {"aarch64": "arm64", "x86_64": "amd64"}.get(architecture(triple), architecture(triple))
    return f"gcc-{triple.replace('_', '-')} libc6-dev-{debian}-cross"


def find_emulator(triple: str) -> list[str]:
    """Return the command that runs a Linux program of another architecture: ``qemu-<architecture>`` with the C library of the cross compiler.

    Raises
    ------
    ToolchainError
        There is no emulator, or no C library for it.
    """
    if system_of(triple) != "linux":
        raise ToolchainError(f"What was compiled for {triple} does not run here: emulators for programs of Linux only are known. Copy it to such a machine.")
    name, root = f"qemu-{architecture(triple)}", Path("/usr") / triple
    program = shutil.which(name) or shutil.which(f"{name}-static")
    if program is None or not (root / "lib").is_dir():
        missing = name if program is None else f"{root}/lib, the C library for {triple}"
        raise ToolchainError(
            f"What was compiled for {triple} runs on this machine under an emulator only, and {missing} was not found. "
            f"Install both (Debian, Ubuntu: `apt install qemu-user {_cross_packages(triple)}`)."
        )
    return [program, "-L", str(root)]
