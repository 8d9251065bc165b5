"""Tuned kernels in their network: each step beside that of the untuned library, in turns.

A kernel that is measured alone finds caches and memory as the tuner leaves them; what counts is the call in which it stands.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from bnncc.compiler import compile
from bnncc.report.profile import profile

__all__ = ["NetworkTimes", "StepTimes", "compare_in_network"]

_SECONDS = 0.5
"""That one library takes of a turn, about."""
_LEAST_CALLS, _MOST_CALLS = 10, 200


@dataclass(frozen=True)
class StepTimes:
    """A step of both libraries.

    Attributes
    ----------
    writes : tuple of str
        ONNX tensors.
    note : str
        Of the tuned kernel.
    macs : int
    untuned, tuned : float
        Seconds, medians over the turns.
    """

    writes: tuple[str, ...]
    note: str
    macs: int
    untuned: float
    tuned: float

    @property
    def gain(self) -> float:
        """How many times as fast."""
        return self.untuned / self.tuned


@dataclass(frozen=True)
class NetworkTimes:
    """Both libraries; steps that only one of them has, as layouts differ, are left out.

    Attributes
    ----------
    steps : tuple of StepTimes
    untuned, tuned : float
        Seconds of a whole call, medians over the turns.
    """

    steps: tuple[StepTimes, ...]
    untuned: float
    tuned: float

    @property
    def gain(self) -> float:
        """How many times as fast."""
        return self.untuned / self.tuned


def compare_in_network(
    model: str | Path | onnx.ModelProto,
    target: str,
    database: str | Path | bool,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sign_zero: str = "exact",
    turns: int = 5,
    repeat: int | None = None,
) -> NetworkTimes:
    """Compile a model with the records of a database and without any, and profile both in turns, one thread.

    Parameters
    ----------
    model, target, database, shapes, sign_zero
        As of `compile`.
    turns : int
    repeat : int, optional
        Calls of a turn; by default as many as half a second holds, 10 to 200.

    Raises
    ------
    ModelError, ToolchainError
    TargetError
        This machine does not run the target.
    """
    with tempfile.TemporaryDirectory(prefix="bnncc-tuned-") as temporary:
        folders = {name: Path(temporary) / name for name in ("untuned", "tuned")}
        for (name, folder), records in zip(folders.items(), (False, database), strict=True):
            compile(model, target=target, database=records, shapes=shapes, sign_zero=sign_zero, name=name).save(folder)
        if repeat is None:
            first = profile(folders["untuned"], repeat=_LEAST_CALLS)
            repeat = int(min(max(_SECONDS / max(first.seconds, 1e-9), _LEAST_CALLS), _MOST_CALLS))
        found: dict[str, list] = {name: [] for name in folders}
        for turn in range(turns):
            for name in sorted(folders, reverse=turn % 2 == 1):
                found[name].append(profile(folders[name], repeat=repeat, seed=turn))
    whole = {name: statistics.median(report.seconds for report in reports) for name, reports in found.items()}
    medians = {name: _medians(reports) for name, reports in found.items()}
    steps = [
        StepTimes(step.writes, step.note, step.macs, medians["untuned"][step.writes], medians["tuned"][step.writes])
        for step in found["tuned"][-1].steps
        if step.writes in medians["untuned"]
    ]
    return NetworkTimes(tuple(steps), whole["untuned"], whole["tuned"])


def _medians(reports: list) -> dict[tuple[str, ...], float]:
    """Return the seconds of each step, by what it writes."""
    columns = zip(*(report.steps for report in reports), strict=True)
    return {column[0].writes: statistics.median(step.seconds for step in column) for column in columns}
