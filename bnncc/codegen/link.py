"""Entry files and kernels to a shared library, by the C compiler."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bnncc.codegen.system import find_system
from bnncc.errors import ToolchainError
from bnncc.toolchain import find_compiler

__all__ = ["link_library"]

# One file for a program to link: nothing is resolved yet, not even the mathematical functions.
_OBJECT_FLAGS = ("-std=c99", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-g0", "-r", "-nostdlib")
_TAIL_LINES = 12


def link_library(
    sources: Sequence[Path],
    objects: Sequence[Path],
    exports: Path,
    library: Path,
    folder: Path,
    triple: str,
    threads: bool = False,
    as_object: bool = False,
) -> None:
    """Compile the entry files and link them with the kernels into a shared library, or into one object file.

    The entry files run before any check of the processor, so they are compiled for the least that there is.

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
    as_object : bool
        Whether to write an object file that a program links, with the mathematical functions.

    Raises
    ------
    ToolchainError
        There is no compiler, or it fails; the message ends with the compiler's last lines.
    """
    compiler = find_compiler(triple)
    system = find_system(triple)
    ends = ["-lm", *(["-pthread"] if threads else [])]
    flags = [*system.flags, *([f"-Wl,--version-script={exports}"] if system.is_elf else [])]
    flags += [f"-Wl,--out-implib,{library.parent / system.imports.format(library.stem)}"] if system.imports else []
    files = [*map(str, sources), *map(str, objects)]
    arguments = [*_OBJECT_FLAGS, "-o", str(library), *files] if as_object else [*flags, "-o", str(library), *files, *ends]
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
