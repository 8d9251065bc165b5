"""Test vectors: samples, and what this machine's library makes of them, compared with onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from bnncc.boards import Vectors, bytes_of_vector
from bnncc.compiler import compile
from bnncc.report.reference import Reference
from bnncc.report.samples import RANDOM, given_or_random
from bnncc.runtime import load

__all__ = ["make_vectors"]

DEFAULT_VECTORS = 8

_ROOM_FOR_CODE = 4096
"""Of the flash, for the program that compares."""


def make_vectors(
    model: str | Path | onnx.ModelProto, inputs: np.ndarray | Mapping[str, np.ndarray] | None, count: int, room: int, options: Mapping
) -> tuple[Vectors | None, str]:
    """Return test vectors and what there is to say of them.

    The expected outputs are those of this machine's library, compiled with the same options, which the firmware equals bit for bit but for the float
    operators of another C library; how far they are from onnxruntime's is said. `verify` explains a difference.

    Parameters
    ----------
    inputs : ndarray or mapping of str to ndarray, optional
        Samples as of `samples_of`; random ones without.
    count : int
        How many at most.
    room : int
        Bytes of flash that the firmware leaves; None comes back where not even one vector fits.
    options : mapping
        Of `compile`.

    Raises
    ------
    InputError
        The samples are not the model's.
    """
    artifact = compile(model, target="native", **options)
    specs = {"inputs": list(artifact.model.inputs), "outputs": list(artifact.model.outputs)}
    samples = given_or_random(inputs, specs["inputs"], count)
    size = bytes_of_vector([*specs["inputs"], *specs["outputs"]])
    fit = max(0, min(len(samples), (room - _ROOM_FOR_CODE) // size))
    left_out = "" if fit == len(samples) else f" The flash has no room for more: {len(samples)} take {len(samples) * size:,} bytes, {max(0, room):,} are left."
    if not fit:
        return None, f"There are no test vectors, and no `make test`.{left_out}"
    samples, source = samples[:fit], "random, seed 0" if inputs is None else "given samples"
    names = [spec.name for spec in specs["outputs"]]
    with tempfile.TemporaryDirectory(prefix="bnncc-vectors-") as folder:
        artifact.save(Path(folder) / "library")
        library = load(Path(folder) / "library")
        results = [result if isinstance(result, dict) else {names[0]: result} for result in map(library, samples)]
    reference = Reference(artifact.model.reference, names)
    by_sample = [reference.run(sample) for sample in samples]
    made = [np.stack([result[name] for result in results]) for name in names]
    wanted = [np.stack([result[name] for result in by_sample]) for name in names]
    apart = max(float(np.max(np.abs(ours.astype(np.float64) - theirs), initial=0)) for ours, theirs in zip(made, wanted, strict=True))
    vectors = Vectors([np.stack([sample[spec.name] for sample in samples]) for spec in specs["inputs"]], made, source)
    drawn = f"{fit} samples {RANDOM}; `--input X.npy` takes real ones" if inputs is None else f"the first {fit} of the samples that were given"
    equal = "equal to onnxruntime's" if apart == 0 else f"{apart:.3g} from onnxruntime's at most; `bnncc verify` says why"
    return vectors, f"Test vectors: {drawn}. Expected outputs are this machine's library's, {equal}.{left_out}"
