"""A compiled model that is called with NumPy arrays."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bnncc.errors import InputError, InternalError
from bnncc.runtime.library import Library, open_library
from bnncc.runtime.threads import Crew, address, checked_count
from bnncc.spec import TensorSpec

__all__ = ["CompiledModel", "load"]


def _aligned(nbytes: int, alignment: int) -> np.ndarray:
    """Return uint8[nbytes] at an aligned address."""
    raw = np.empty(nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + max(nbytes, 1)]  # NumPy gives an empty slice any address


def _specs(rows: Sequence[Mapping], prefix: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(row.get("name", f"{prefix}{index}"), tuple(row["shape"]), row["dtype"]) for index, row in enumerate(rows))


class CompiledModel:
    """A network in a shared library.

    Calls may come from several threads at once: each thread has a workspace of its own, and Python's lock is released while the network
    runs.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
        What the network takes and gives.
    metadata : dict
        The content of metadata.json.
    variant : str
        The code that was chosen for this machine.
    path : Path
        The library.
    threads : int
        How many share a call. Each thread that calls has others of its own, so keep the product within the processors.
    """

    def __init__(self, library: Library, threads: int = 1):
        self.threads = checked_count(threads)
        if self.threads > 1 and library.start_threads is None:
            raise InputError(f"{library.path} runs under an emulator here, on one thread only; {threads} were asked for.")
        most = library.metadata.get("threads", {}).get("most", 1)
        if self.threads > most:
            raise InputError(f"{library.path} was compiled for {most} thread{'s'[: most > 1]}, {threads} were asked for. Compile with --threads {threads}.")
        self._library = library
        self._local = threading.local()
        self.metadata = library.metadata
        self.variant = library.variant
        self.path = library.path
        self.inputs = _specs(self.metadata["inputs"], "in")
        self.outputs = _specs(self.metadata["outputs"], "out")
        self._taken = tuple((spec.shape, np.dtype(spec.dtype)) for spec in self.inputs)

    def __repr__(self) -> str:
        shapes = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"CompiledModel({self.metadata['name']}, {self.variant}: {shapes[0]} -> {shapes[1]})"

    def __call__(self, *arrays, **named):
        """Run the network.

        Parameters
        ----------
        *arrays : array
            The inputs in order; or one dict of them by name.
        **named : array
            Inputs by name.

        Returns
        -------
        numpy.ndarray or dict
            The output, or all outputs by name if there are several. If every input was compiled with a leading dimension of 1 and is given
            with one of N, the network runs N times and each output is stacked along its first dimension if that is 1, else along a new one.

        Raises
        ------
        InputError
            A name, shape or dtype is not the one the network was compiled for. Nothing is converted silently.
        """
        if self._fit(ordered := self._in_order(arrays, named)):  # a small network takes microseconds: nothing is spent where nothing is wrong
            results = self._run("main", ordered, self.outputs)
        else:
            given = self._bind(arrays, named)
            batch = self._batch(given)
            if batch is None:
                results = self._run("main", [_check(array, spec) for array, spec in zip(given, self.inputs, strict=True)], self.outputs)
            else:
                results = self._run_batch(given, batch)
        if len(results) == 1:
            return results[0]
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def _in_order(self, arrays: tuple, named: dict) -> Sequence:
        """Return the inputs in order where they were given so, or all by name; what is wrong otherwise is found out elsewhere."""
        if len(arrays) == 1 and not named and type(arrays[0]) is dict:
            arrays, named = (), arrays[0]
        if not named:
            return arrays
        if arrays or len(named) != len(self.inputs):
            return ()
        return [named.get(spec.name) for spec in self.inputs]

    def _fit(self, arrays: Sequence) -> bool:
        """Tell whether these are the inputs in order as the library reads them."""
        if len(arrays) != len(self._taken):
            return False
        for array, (shape, dtype) in zip(arrays, self._taken, strict=True):
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return False
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned):
                return False
        return True

    def run_entry(self, entry: str, *arrays) -> list[np.ndarray]:
        """Run one entry of the library, such as a section of the network, and return all of its outputs.

        Raises
        ------
        InputError
            There is no such entry, or an array does not fit it.
        """
        if entry not in self.metadata["entries"]:
            raise InputError(f"The library has no entry {entry!r}; it has {', '.join(self.metadata['entries'])}.")
        signature = self.metadata["entries"][entry]
        inputs, outputs = _specs(signature["inputs"], "in"), _specs(signature["outputs"], "out")
        if len(arrays) != len(inputs):
            raise InputError(f"The entry {entry} takes {len(inputs)} inputs, {len(arrays)} were given.")
        return self._run(entry, [_check(array, spec) for array, spec in zip(arrays, inputs, strict=True)], outputs)

    def _bind(self, arrays: tuple, named: dict) -> list:
        """Return the given arrays in the order of the inputs."""
        if len(arrays) == 1 and isinstance(arrays[0], Mapping):
            named, arrays = {**arrays[0], **named}, ()
        names = [spec.name for spec in self.inputs]
        expected = f"The network takes {'; '.join(map(str, self.inputs)) or 'no input'}."
        if len(arrays) > len(names):
            raise InputError(f"{len(arrays)} arrays were given. {expected}")
        bound = dict(zip(names, arrays, strict=False))
        for name, array in named.items():
            if name not in names:
                raise InputError(f"There is no input {name!r}. {expected}")
            if name in bound:
                raise InputError(f"The input {name!r} was given twice, by position and by name. {expected}")
            bound[name] = array
        missing = [name for name in names if name not in bound]
        if missing:
            raise InputError(f"Missing input: {', '.join(missing)}. {expected}")
        return [bound[name] for name in names]

    def _batch(self, given: Sequence) -> int | None:
        """Return N if all inputs were compiled with a leading 1 and are given with the same leading N other than 1."""
        shapes = [np.shape(array) for array in given]
        fits = shapes != [spec.shape for spec in self.inputs] and [
            spec.shape[:1] == (1,) and len(shape) == len(spec.shape) and shape[1:] == spec.shape[1:]
            for shape, spec in zip(shapes, self.inputs, strict=True)
        ]
        leading = {shape[:1] for shape in shapes}
        return shapes[0][0] if fits and all(fits) and len(leading) == 1 and shapes[0][0] != 1 else None

    def _run_batch(self, given: Sequence, batch: int) -> list[np.ndarray]:
        checked = [_check_dtype(array, spec) for array, spec in zip(given, self.inputs, strict=True)]
        squeeze = [spec.shape[:1] == (1,) for spec in self.outputs]
        results = [
            np.empty((batch, *(spec.shape[1:] if first else spec.shape)), spec.dtype)
            for spec, first in zip(self.outputs, squeeze, strict=True)
        ]
        for index in range(batch):
            one = slice(index, index + 1)  # a view, also where an index would give a scalar
            self._run_into("main", [array[one] for array in checked], [result[one] for result in results])
        return results

    def _run(self, entry: str, arrays: list[np.ndarray], outputs: Sequence[TensorSpec]) -> list[np.ndarray]:
        results = [np.empty(spec.shape, spec.dtype) for spec in outputs]
        self._run_into(entry, arrays, results)
        return results

    def _run_into(self, entry: str, arrays: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> None:
        crew = self._crew() if self.threads > 1 and entry == "main" else None
        nbytes = self.metadata["entries"][entry]["workspace_bytes"] + (crew.workspace_bytes if crew else 0)
        local = self._local
        if getattr(local, "nbytes", -1) < nbytes:
            local.workspace = _aligned(nbytes, self.metadata["workspace_align"])
            local.nbytes, local.address = nbytes, address(local.workspace)
        code = (crew.run if crew else self._library.functions[entry])(arrays, results, local.address)
        if code:
            raise InternalError(f"{self.path} returned {code}: {self._library.error_text(code).decode()}")

    def start_crew(self) -> Crew | None:
        """Start threads that share calls of the library with the one that asks; None for a single thread."""
        return self._library.start_threads(self.threads) if self.threads > 1 else None

    def _crew(self) -> Crew:
        """Return the threads that work for the calling one, started at its first call."""
        crew = getattr(self._local, "crew", None)
        if crew is None or not crew.alive:
            crew = self._local.crew = self.start_crew()
        return crew


def _check_dtype(array, spec: TensorSpec) -> np.ndarray:
    """Return the array dense and aligned, after its dtype was checked."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"The input {spec.name!r} is a {type(array).__name__}; give a NumPy array of {spec.dtype}{list(spec.shape)}.")
    if array.dtype != np.dtype(spec.dtype):
        raise InputError(
            f"The input {spec.name!r} has dtype {array.dtype}, the network takes {spec.dtype}. "
            f"If the conversion is meant, give `{spec.name}.astype(numpy.{spec.dtype})`."
        )
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, requirements=["C", "A"])


def _check(array, spec: TensorSpec) -> np.ndarray:
    """Return the array dense and aligned, after dtype and shape were checked."""
    array = _check_dtype(array, spec)
    if array.shape != spec.shape:
        raise InputError(f"The input {spec.name!r} has shape {list(array.shape)}, the network takes {list(spec.shape)} of {spec.dtype}.")
    return array


def load(path: str | Path, threads: int = 1) -> CompiledModel:
    """Load a compiled model.

    Parameters
    ----------
    path : str or Path
        The folder that `bnncc compile` wrote, or the library in it.
    threads : int
        How many share a call; at most one a processor. Results do not depend on it.

    Raises
    ------
    LibraryError
        There is no compiled model, or it is damaged.
    TargetError
        This machine lacks something that it was compiled for.
    InputError
        `threads` is no number from 1 on, or an emulator runs the library and it is more.
    """
    return CompiledModel(open_library(Path(path)), threads)
