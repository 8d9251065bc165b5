"""Opening a compiled model: the folder's metadata, the library and its functions."""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.errors import LibraryError, TargetError
from bnncc.runtime.emulator import Emulator
from bnncc.runtime.threads import Crew, Threading, pointers
from bnncc.toolchain import is_native

__all__ = ["Library", "checked_library", "open_library"]

_FORMAT = "bnncc-library"
_FORMAT_VERSION = 1
_METADATA_FILE = "metadata.json"
_FIELDS = "name files target triple features variants inputs outputs entries workspace_align library_bytes library_sha256".split()

# Contents that this process has opened, by path. The loader takes a path that it knows for the library that it has, even after the file was
# replaced; a path spelled with one more "./" is a new one to it.
_opened: dict[Path, list[str]] = {}


@dataclass(frozen=True)
class Library:
    """An open library, its metadata, and its functions by entry: ``function(inputs, outputs, workspace)`` on arrays and an address gives the C
    function's code.

    `start_threads` starts a crew of so many, whose member `run` is such a function of ``main``; None where threads are out of reach, under an emulator.
    """

    path: Path
    metadata: dict
    functions: dict[str, Callable[[Sequence[np.ndarray], Sequence[np.ndarray], int], int]]
    variant: str
    error_text: Callable[[int], bytes]
    start_threads: Callable[[int], Crew] | None = None


def _read_metadata(folder: Path) -> dict:
    path = folder / _METADATA_FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        known = metadata["format"] == _FORMAT
        version = metadata.get("format_version")
    except FileNotFoundError as error:
        raise LibraryError(
            f"{folder} is not a compiled model: it has no {_METADATA_FILE}. Give the folder that `bnncc compile -o` wrote."
        ) from error
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LibraryError(f"{path} is damaged or not bnncc's ({error}). Compile the model again.") from error
    if not known:
        ways = {
            "bnncc-c": " C is for your compiler; to run the model from here make a firmware (`bnncc project`), or compile with `--format so`.",
            "bnncc-object": " An object file is linked into a program; to run the model from here compile it with `--format so`.",
        }
        raise LibraryError(f"{path} describes no library (its format is {metadata['format']!r}).{ways.get(metadata['format'], '')}")
    if version != _FORMAT_VERSION:
        raise LibraryError(f"{path} has format version {version}, this bnncc reads {_FORMAT_VERSION}. Compile the model again.")
    missing = [field for field in _FIELDS if field not in metadata]
    if missing:
        raise LibraryError(f"{path} is damaged or not bnncc's (it lacks {', '.join(missing)}). Compile the model again.")
    return metadata


def _check_file(path: Path, metadata: dict) -> None:
    """Raise LibraryError unless the library is the one that the metadata describes; loading a cut file would end the process."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise LibraryError(f"{path} is missing, though {_METADATA_FILE} beside it names it. Compile the model again.") from error
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != metadata["library_sha256"]:
        raise LibraryError(
            f"{path} is damaged or not the one that {_METADATA_FILE} describes ({len(content)} bytes, "
            f"{metadata['library_bytes']} expected)."
            " Compile the model again."
        )


def _spelling(file: Path, content: str) -> str:
    """Return the path of a library, spelled so that each content has a spelling of its own."""
    contents = _opened.setdefault(file, [])
    if content not in contents:
        contents.append(content)
    return f"{file.parent}/{'./' * contents.index(content)}{file.name}"


def _missing_features(library: ctypes.CDLL, metadata: dict) -> str:
    """Return what this machine lacks for the least demanding variant."""
    has_feature = getattr(library, f"{metadata['name']}_has_feature")
    missing = {
        variant["name"]: [f for f in variant["cpu_features"] if not has_feature(metadata["features"].index(f))]
        for variant in metadata["variants"]
    }
    return ", ".join(min(missing.values(), key=len))


def _on_arrays(function: ctypes._CFuncPtr) -> Callable:
    return lambda inputs, outputs, workspace: function(pointers(inputs), pointers(outputs), workspace)


def _open_emulated(file: Path, metadata: dict) -> Library:
    name = metadata["name"]
    emulator = Emulator(file, metadata["triple"], metadata["workspace_align"])
    chosen = emulator.text(f"{name}_variant")
    if not chosen:
        raise TargetError(f"The library {file} was compiled for {metadata['target']}, but the emulated processor lacks instructions that it needs.")
    functions = {entry: emulator.function(signature["symbol"], signature["workspace_bytes"]) for entry, signature in metadata["entries"].items()}
    return Library(file, metadata, functions, f"{chosen.decode()}, emulated", lambda code: emulator.text(f"{name}_error", code))


def checked_library(path: Path) -> tuple[Path, dict]:
    """Return the library file of a compiled model in a folder, or of a library file in one, and its metadata.

    Raises
    ------
    LibraryError
        There is none, or it is damaged.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise LibraryError(f"{path} does not exist. Give the folder that `bnncc compile -o` wrote, or the library in it.")
    metadata = _read_metadata(folder)
    file = folder / metadata["files"][0]
    if path != folder and path.name != file.name:
        raise LibraryError(f"{path} is not the library that {folder / _METADATA_FILE} describes, which is {file.name}.")
    _check_file(file, metadata)
    return file, metadata


def open_library(path: Path) -> Library:
    """Open the compiled model in a folder, or of a library file in one.

    Raises
    ------
    LibraryError
        There is none, or it is damaged.
    TargetError
        This machine cannot run it.
    ToolchainError
        It is for another architecture, and what emulates that is not installed.
    """
    file, metadata = checked_library(path)
    if not is_native(metadata["triple"]):
        return _open_emulated(file, metadata)
    try:
        library = ctypes.CDLL(_spelling(file.resolve(), metadata["library_sha256"]))
    except OSError as error:
        raise LibraryError(f"{file} cannot be loaded: {error}.") from error
    name = metadata["name"]
    variant = getattr(library, f"{name}_variant")
    variant.restype, variant.argtypes = ctypes.c_char_p, []
    chosen = variant()
    if chosen is None:
        raise TargetError(
            f"The library {file} was compiled for {metadata['target']}, but this machine lacks {_missing_features(library, metadata)}. "
            "Compile the model with --target x86-64 or --target native."
        )
    functions = {}
    for entry, signature in metadata["entries"].items():
        function = getattr(library, signature["symbol"])
        function.restype, function.argtypes = ctypes.c_int32, [ctypes.c_void_p] * 3
        functions[entry] = _on_arrays(function)
    error_text = getattr(library, f"{name}_error")
    error_text.restype, error_text.argtypes = ctypes.c_char_p, [ctypes.c_int32]
    return Library(file, metadata, functions, chosen.decode(), error_text, lambda count: Threading(library, metadata).crew(count))
