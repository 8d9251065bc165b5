"""Arrays of samples, cut into what a model takes in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bnncc.errors import InputError
from bnncc.spec import TensorSpec

__all__ = ["RANDOM", "given_or_random", "random_array", "samples_of"]

RANDOM = "drawn at random, seed 0: reals normally distributed, bytes over their whole range"
"""What to say of the samples of `given_or_random` where none are given."""

_FEW = 4


def random_array(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Return normally distributed reals, integers of 8 bits over their whole range, or for another element type 0 and 1, which every use of integers takes."""
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        values = rng.standard_normal(spec.shape)
    else:
        low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" and dtype.itemsize == 1 else (0, 1)
        values = rng.integers(low, high + 1, spec.shape)
    return np.asarray(values).astype(dtype)


def given_or_random(inputs: np.ndarray | Mapping[str, np.ndarray] | None, specs: Sequence[TensorSpec], limit: int | None = None) -> list[dict[str, np.ndarray]]:
    """Return the samples of `samples_of`, or where no inputs are given `limit` random ones (4 without a limit), always the same."""
    if inputs is not None:
        return samples_of(inputs, specs, limit)
    rng = np.random.default_rng(0)
    return [{spec.name: random_array(spec, rng) for spec in specs} for _ in range(limit or _FEW)]


def samples_of(inputs: np.ndarray | Mapping[str, np.ndarray], specs: Sequence, limit: int | None = None) -> list[dict[str, np.ndarray]]:
    """Return the samples, each the arrays of one run by input name.

    Parameters
    ----------
    inputs : ndarray or mapping of str to ndarray
        The one input, or all by name; each with the shape of the input, or with N times its first dimension, or with a dimension
        N in front.
    specs : sequence of TensorSpec
        The model's inputs, or anything with name, shape and dtype.
    limit : int, optional
        Return the first so many only.

    Raises
    ------
    InputError
        A name, shape or dtype is not the model's, the inputs hold different numbers of samples, or NaN.
    """
    expected = "; ".join(str(TensorSpec(spec.name, tuple(spec.shape), spec.dtype)) for spec in specs)
    if not isinstance(inputs, Mapping):
        if len(specs) != 1:
            raise InputError(
                f"The model has {len(specs)} inputs ({expected}), but one array without a name was given. Name each: --input NAME=FILE.npy."
            )
        inputs = {specs[0].name: inputs}
    names = [spec.name for spec in specs]
    unknown, missing = [n for n in inputs if n not in names], [n for n in names if n not in inputs]
    if unknown or missing:
        problem = f"there is no input {unknown[0]!r}" if unknown else f"the input {missing[0]!r} is missing"
        raise InputError(f"The model takes {expected}; {problem}.")
    columns = {spec.name: _split(np.asarray(inputs[spec.name]), spec) for spec in specs}
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            f"The inputs hold different numbers of samples: {', '.join(f'{name} {count}' for name, count in counts.items())}. "
            "Give the same of each."
        )
    number = min([*counts.values(), *([] if limit is None else [limit])], default=1)
    return [{name: np.asarray(column[i], order="C") for name, column in columns.items()} for i in range(number)]


def _split(array: np.ndarray, spec) -> np.ndarray:
    """Return the array with samples along the first axis and a whole input behind it."""
    shape = tuple(spec.shape)
    if array.dtype != np.dtype(spec.dtype):
        raise InputError(
            f"The input {spec.name!r} has dtype {array.dtype}, the model takes {spec.dtype}. "
            f"If the conversion is meant, save array.astype('{spec.dtype}')."
        )
    if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
        raise InputError(
            f"The input {spec.name!r} holds NaN, the first at {np.argwhere(np.isnan(array))[0].tolist()}. A sign or rounding of NaN is no number, so there is "
            "nothing to compare. Check how the samples were made."
        )
    if array.size:
        if array.shape == shape:
            return array[None]
        if array.shape[1:] == shape:
            return array
        if shape and array.ndim == len(shape) and array.shape[1:] == shape[1:] and array.shape[0] % shape[0] == 0:
            return array.reshape(-1, *shape)
    wanted = f"{list(shape)}, or {['N', *shape[1:]] if shape and shape[0] == 1 else ['N', *shape]} for N samples".replace("'", "")
    raise InputError(f"The input {spec.name!r} has shape {list(array.shape)}, the model takes {wanted}.")
