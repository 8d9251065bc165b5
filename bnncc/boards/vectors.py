"""Test vectors of a firmware project: inputs and expected outputs as a header of C, the program that compares them on the board, and .npy files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from bnncc.codegen.c_text import c_comment, c_tensors
from bnncc.spec import TensorSpec

__all__ = ["VECTOR_FILES", "Vectors", "bytes_of_vector", "tolerance_of", "write_vectors"]

VECTOR_FILES = ("test.c", "test_vectors.h", "vectors")

_WORD = 8


@dataclass(frozen=True)
class Vectors:
    """Samples and what the model makes of them.

    Parameters
    ----------
    inputs, outputs : sequence of ndarray
        In the order of the model's; the first axis is that of the samples.
    source : str
        Where the samples come from, for readers.
    """

    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]
    source: str


def tolerance_of(expected: np.ndarray) -> float:
    """Return what float operators of two C libraries may differ by: a millionth of the largest magnitude; 0 for integers."""
    return 1e-6 * float(np.max(np.abs(expected), initial=0)) if expected.dtype.kind == "f" else 0.0


def bytes_of_vector(specs: Sequence[TensorSpec]) -> int:
    """Return what one test vector takes of the flash."""
    return sum(-(-spec.nbytes // _WORD) * _WORD for spec in specs)


def write_vectors(environment: jinja2.Environment, context: Mapping, specs: Mapping[str, Sequence[TensorSpec]], vectors: Vectors, staging: Path) -> dict:
    """Write the files of test vectors into a project's folder.

    Parameters
    ----------
    environment : jinja2.Environment
        Finds the templates.
    context : mapping
        What the project's other templates are given.
    specs : mapping of str to sequence of TensorSpec
        ``inputs`` and ``outputs``.
    vectors : Vectors
    staging : Path

    Returns
    -------
    dict
        What the project's metadata says of them.
    """
    given, expected = (
        [_described(*both) for both in zip(specs[part], c_tensors(specs[part]), arrays, strict=True)]
        for part, arrays in (("inputs", vectors.inputs), ("outputs", vectors.outputs))
    )
    samples = len((*vectors.inputs, *vectors.outputs)[0])
    more = {"given": given, "expected": expected, "samples": samples, "source": c_comment(vectors.source).replace('"', "'")}
    more["newline"] = r"\r\n" if context["board"].uart else r"\n"
    for file in ("test.c", "test_vectors.h"):
        (staging / file).write_text(environment.get_template(f"{file}.j2").render({**context, **more}), encoding="utf-8")
    folder = staging / "vectors"
    folder.mkdir()
    files: dict[str, dict[str, str]] = {}
    for part, stem, arrays in (("inputs", "input", vectors.inputs), ("outputs", "expected", vectors.outputs)):
        names = [f"{stem}.npy"] if len(arrays) == 1 else [f"{stem}_{tensor['member']}.npy" for tensor in c_tensors(specs[part])]
        files[part] = {spec.name: f"vectors/{name}" for spec, name in zip(specs[part], names, strict=True)}
        for name, array in zip(names, arrays, strict=True):
            np.save(folder / name, array, allow_pickle=False)
    return {"samples": samples, "source": vectors.source, **files}


def _described(spec: TensorSpec, tensor: Mapping, array: np.ndarray) -> dict:
    """Return what the templates say of a tensor and its samples."""
    rows = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _WORD))).view("<u8")
    words = [[f"0x{word:x}u" for word in row] for row in padded.tolist()]
    tolerance = f"{tolerance_of(array):.9g}" if array.dtype.kind == "f" else None
    if tolerance is not None:
        tolerance = (tolerance if set(tolerance) & set(".en") else f"{tolerance}.0") + ("f" if array.dtype.itemsize == 4 else "")
    return {**tensor, "nbytes": spec.nbytes, "itemsize": array.dtype.itemsize, "words": words, "tolerance": tolerance}
