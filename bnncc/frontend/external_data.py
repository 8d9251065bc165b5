"""Tensors whose bytes lie in files beside the model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import onnx

from bnncc.errors import ModelFormatError

__all__ = ["load_external_data"]


def load_external_data(tensors: Iterable[tuple[str, onnx.TensorProto]], folder: Path | None) -> None:
    """Read the bytes of externally stored tensors into them.

    Parameters
    ----------
    tensors
        (name to show, tensor); those that hold their data themselves are left alone.
    folder
        The model's folder, resolved; None when the model came from memory.

    Raises
    ------
    ModelFormatError
        A file is missing, too short, or outside of the folder, or the model has no folder.
    """
    for name, tensor in tensors:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if folder is None:
            raise ModelFormatError(
                f"Tensor '{name}' is stored in the external file '{entries.get('location', '')}', but the model was given in "
                "memory, without a folder. Give the path of the .onnx file, or load its external data first."
            )
        tensor.raw_data = _read(name, tensor, entries, folder)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _read(name: str, tensor: onnx.TensorProto, entries: dict[str, str], folder: Path) -> bytes:
    location = entries.get("location", "")
    path = _inside(name, location, folder)
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        size = math.prod(tensor.dims) * itemsize
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelFormatError(
            f"Tensor '{name}' has a damaged reference to its external file '{location}': {error}. Export the model again."
        ) from error
    if length != size and tensor.data_type not in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        raise ModelFormatError(
            f"Tensor '{name}' of shape {list(tensor.dims)} takes {size} bytes, but its reference to the external file '{location}' "
            f"says {length}. Export the model again."
        )
    try:
        available = path.stat().st_size
        if offset < 0 or length < 0 or offset + length > available:
            raise ModelFormatError(
                f"Tensor '{name}' lies at bytes {offset} to {offset + length} of the external file '{location}', which has only "
                f"{available} bytes. The file is truncated or belongs to another model: copy it again."
            )
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise ModelFormatError(
            f"Tensor '{name}' is stored in the external file '{location}', which cannot be read from the model's folder: "
            f"{error.strerror}. Put it beside the .onnx file."
        ) from error


def _inside(name: str, location: str, folder: Path) -> Path:
    """Return the file's path, links followed, if that is inside of the folder."""
    refusal = (
        f"Tensor '{name}' is stored in the external file '{location}', which is outside of the model's folder. Only files inside of "
        "that folder are read: move it there and export the model again with a relative path."
    )
    if not location:
        raise ModelFormatError(f"Tensor '{name}' is marked as external but names no file. Export the model again.")
    windows_absolute = location[1:2] == ":" or location.startswith("\\")
    if "\0" in location or Path(location).is_absolute() or windows_absolute or ".." in location.replace("\\", "/").split("/"):
        raise ModelFormatError(refusal)
    path = (folder / location).resolve()
    if not path.is_relative_to(folder):
        raise ModelFormatError(refusal)
    return path
