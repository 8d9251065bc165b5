"""What measures candidates, behind one interface: this machine, an emulated microcontroller, boards over RPC.

A candidate and the untuned kernel arrive as folders of compiled models (`candidate.build_model`) with the inputs that the kernel meets in the model and the
outputs that it has to give. A runner checks the outputs bit for bit, then measures both kernels in turns, so that what disturbs the machine disturbs both. It
never raises for what a candidate does: a crash or an endless loop is a `Measurement` with that status.

To add a runner: a class with the members of `Runner`. `workers` is how many jobs `measure` may be called with at once, from as many threads; where it is 1 no
candidate is built while one is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:  # a candidate's process is up at once without these
    from bnncc.runtime import CompiledModel
    from bnncc.targets import Target

__all__ = ["Job", "Measurement", "Runner", "Sample", "differing_bytes", "read_samples", "write_samples"]


@dataclass(frozen=True)
class Sample:
    """Inputs of a kernel in order, and the outputs that are right."""

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]


def write_samples(file: Path, samples: Sequence[Sample]) -> None:
    """Write samples to a file."""
    arrays = {}
    for number, sample in enumerate(samples):
        arrays |= {f"{number}-in-{i}": array for i, array in enumerate(sample.inputs)}
        arrays |= {f"{number}-out-{i}": array for i, array in enumerate(sample.outputs)}
    np.savez(file, **arrays)


def read_samples(file: Path) -> list[Sample]:
    """Read the samples of a file."""
    with np.load(file) as arrays:
        found: dict[int, dict[str, dict[int, np.ndarray]]] = {}
        for name in arrays.files:
            number, side, place = name.split("-")
            found.setdefault(int(number), {"in": {}, "out": {}})[side][int(place)] = arrays[name]
    sides = ([tuple(array for _, array in sorted(sample[side].items())) for side in ("in", "out")] for _, sample in sorted(found.items()))
    return [Sample(*pair) for pair in sides]


def differing_bytes(number: int, made: np.ndarray | bytes, right: np.ndarray) -> str:
    """Say how an output differs from the one that is right, byte for byte: a NaN equals itself, -0.0 does not equal 0.0.

    Parameters
    ----------
    number : int
        Of the output.
    made : ndarray or bytes
        What a kernel wrote, of any shape and dtype.
    right : ndarray

    Returns
    -------
    str
        Empty where nothing differs.
    """
    found, wanted = (np.frombuffer(array if isinstance(array, bytes) else np.ascontiguousarray(array).tobytes(), np.uint8) for array in (made, right))
    if found.size != wanted.size:
        return f"output {number} has {found.size} bytes, not {wanted.size}"
    differing = int((found != wanted).sum())
    return f"{differing} of {wanted.size} bytes of output {number} differ" if differing else ""


@dataclass(frozen=True)
class Job:
    """A candidate to be measured.

    Parameters
    ----------
    candidate, untuned : Path
        Folders of compiled models; the same one where the untuned kernel itself is measured.
    samples : Path
        File of the samples, see `read_samples`. Time is taken on the first; all are checked.
    calls : int
        Of each kernel that are timed.
    """

    candidate: Path
    untuned: Path
    samples: Path
    calls: int = 30


@dataclass(frozen=True)
class Measurement:
    """What came out.

    Parameters
    ----------
    status : str
        ``ok``, ``wrong``, ``crash`` or ``timeout``.
    value, untuned_value : float or None
        In the runner's metric.
    message : str
        Why it failed.
    """

    status: str
    value: float | None = None
    untuned_value: float | None = None
    message: str = ""


class Runner(Protocol):
    """Measures candidates.

    Attributes
    ----------
    metric : str
        ``seconds`` or ``instructions``.
    machine : str
        What measures, for the records.
    workers : int
        How many jobs at once.
    is_noisy : bool
        Whether a second measurement may say something else.
    """

    metric: str
    machine: str
    workers: int
    is_noisy: bool

    def best_part(self, target: Target) -> Target:
        """Return a target with the one variant that is tuned: the best that runs there."""
        ...

    def load(self, folder: Path) -> CompiledModel:
        """Return a compiled model that runs there, or here and gives the same; not asked for C code."""
        ...

    def measure(self, job: Job) -> Measurement:
        """Check and measure one candidate."""
        ...

    def close(self) -> None:
        """End what the runner has started."""
        ...
