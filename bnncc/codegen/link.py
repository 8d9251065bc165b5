"""Entry files and kernels to a shared library, by the C compiler."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bnncc.errors import ToolchainError
from bnncc.toolchain import find_compiler

__all__ = ["link_library"]

# The entry file runs before any check of the processor, so it is compiled for the least that there is. The start files would bring the only
# writable variables of the library (and undefined weak symbols) for constructors that it does not have.
_FLAGS = (
    *("-std=c99", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-g0"),
    *("-shared", "-nostartfiles", "-s", "-Wl,--no-undefined", "-Wl,--gc-sections", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"),
)
_TAIL_LINES = 12


def link_library(sources: Sequence[Path], objects: Sequence[Path], exports: Path, library: Path, folder: Path, triple: str, threads: bool = False) -> None:
    """Compile the entry files and link them with the kernels into a shared library.

    Parameters
    ----------
    sources : sequence of Path
        C and assembler files.
    objects : sequence of Path
        Kernel objects.
    exports : Path
        Version script with the public symbols.
    library : Path
        The library to write.
    folder : Path
        Where the compiler runs; relative names in the sources start here.
    triple : str
        What to compile for.
    threads : bool
        Whether the sources start threads.

    Raises
    ------
    ToolchainError
        There is no compiler, or it fails; the message ends with the compiler's last lines.
    """
    compiler = find_compiler(triple)
    arguments = [*_FLAGS, f"-Wl,--version-script={exports}", "-o", str(library), *map(str, sources), *map(str, objects), "-lm", *(["-pthread"] if threads else [])]
    response = folder / "link.args"  # a network has hundreds of kernels, a command line has limits
    response.write_text("\n".join(shlex.quote(argument) for argument in arguments), encoding="utf-8")
    try:
        done = subprocess.run([*compiler, f"@{response}"], cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ToolchainError(
            f"The C compiler {shlex.join(compiler)} cannot be run: {error}. Set the environment variable CC to one that can."
        ) from error
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_TAIL_LINES:])
        raise ToolchainError(
            f"The C compiler `{shlex.join(compiler)}` failed to link the library (exit {done.returncode}). Its last lines:\n{last}"
        )
