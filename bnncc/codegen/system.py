"""What the operating system changes in a library: the file's name, the sections of its parts, and what the linker is told."""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.toolchain import system_of

__all__ = ["System", "find_system"]

_COMMON = ("-std=c99", "-O2", "-fvisibility=hidden", "-Wall", "-g0")

# The start files would bring the only writable variables of the library (and undefined weak symbols) for constructors that it does not have.
_ELF = ("-shared", "-nostartfiles", "-s", "-Wl,--no-undefined", "-Wl,--gc-sections", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack")


@dataclass(frozen=True)
class System:
    """One operating system.

    Parameters
    ----------
    library : str
        Pattern of a library's file name.
    flags : tuple of str
        Options of the compiler that links the library.
    section : str
        Assembler directive of the constants' section.
    symbol_prefix : str
        What C puts before the name of a symbol.
    is_elf : bool
        Whether symbols have types and visibility, the loader resolves functions, and the linker takes a list of exports.
    export : str
        What C writes before a function that the library exports.
    imports : str
        Pattern of the file name of what a program is linked with instead of the library.
    note : str
        What whoever deploys a library has to know; it goes into the metadata.
    """

    library: str
    flags: tuple[str, ...]
    section: str
    symbol_prefix: str = ""
    is_elf: bool = False
    export: str = '__attribute__((visibility("default")))'
    imports: str = ""
    note: str = ""


_NEVER_RUN = "built, not run here: bnncc's tests link such libraries and look into them, but never ran one"

_SYSTEMS = {
    "linux": System("lib{}.so", (*_COMMON, "-fPIC", *_ELF), ".section .rodata", is_elf=True),
    "macos": System("lib{}.dylib", (*_COMMON, "-fPIC", "-dynamiclib", "-Wl,-dead_strip"), ".section __TEXT,__const", "_", note=_NEVER_RUN),
    "windows": System(
        "{}.dll", (*_COMMON, "-shared", "-s"), '.section .rdata,"dr"', export="__declspec(dllexport)", imports="{}.lib", note=_NEVER_RUN
    ),
}


def find_system(triple: str) -> System:
    """Return the operating system of a triple."""
    return _SYSTEMS[system_of(triple)]
