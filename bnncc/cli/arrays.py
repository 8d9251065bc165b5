"""Arrays in .npy files: what ``--input`` reads and ``--output`` writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from bnncc.errors import InputError, OutputError

__all__ = ["read_array", "read_inputs", "write_outputs"]


def read_array(path: Path) -> np.ndarray:
    """Read one numeric array from a .npy file.

    Raises
    ------
    InputError
        The file is missing, unreadable, truncated, no .npy file, or holds Python objects.
    """
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise InputError(f"{path} is not a .npy file; write one array with numpy.save(path, array).")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"The input file {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, MemoryError) as error:  # MemoryError: the header promises more than there is
        if isinstance(error, InputError):
            raise
        if "Object arrays" in str(error):
            raise InputError(
                f"{path} holds pickled Python objects, which are not loaded since they could run code. "
                "Save a numeric array: numpy.save(path, array.astype('float32'))."
            ) from error
        raise InputError(f"{path} is a damaged .npy file ({error}). Save it again with numpy.save.") from error


def read_inputs(given: list[str]) -> np.ndarray | dict[str, np.ndarray]:
    """Read ``--input`` values, each ``x.npy`` or ``name=x.npy``.

    Returns
    -------
    numpy.ndarray or dict of str to numpy.ndarray
        The array where one file without a name was given, else arrays by input name.

    Raises
    ------
    InputError
        A file cannot be read (see `read_array`), an input comes twice, or several files have no names.
    """
    arrays: dict[str, np.ndarray] = {}
    for text in given:
        name, equals, path = ("", "", text) if Path(text).exists() else text.rpartition("=")  # a path may hold a "="
        if not equals and len(given) == 1:
            return read_array(Path(path))
        if not name:
            raise InputError(f"--input {text} does not say which input it is for: where there are several, write NAME=FILE.npy for each.")
        if name in arrays:
            raise InputError(f"--input gives the input {name!r} twice.")
        arrays[name] = read_array(Path(path))
    return arrays


def write_outputs(path: Path, outputs: np.ndarray | Mapping[str, np.ndarray]) -> None:
    """Write one array as .npy, or several by name as .npz; all of the file or nothing.

    Raises
    ------
    OutputError
        The ending does not fit the number of outputs, or the file cannot be written.
    """
    several = isinstance(outputs, Mapping)
    wanted = ".npz" if several else ".npy"
    if path.suffix != wanted:
        what = f"{len(outputs)} outputs ({', '.join(outputs)}), which go" if several else "one output, which goes"
        raise OutputError(f"The model has {what} into a {wanted} file, but --output is {path}. Write --output {path.with_suffix(wanted)}.")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            if several:
                np.savez(file, **outputs)
            else:
                np.save(file, outputs, allow_pickle=False)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"The output {path} cannot be written: {error.strerror or error}.") from error
