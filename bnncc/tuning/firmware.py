"""The runner of microcontrollers: a firmware of one kernel for each candidate, run under QEMU and its instructions counted.

Instructions are a metric of their own: QEMU models no caches, buses or flash, so that they are not time. They do not depend on what else the machine does.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnncc.boards.counting import count_project
from bnncc.boards.manifest import Board
from bnncc.boards.project import write_project
from bnncc.boards.runner import run_project
from bnncc.errors import BnnccError, InternalError, TargetError
from bnncc.targets import Target
from bnncc.tuning.runner import Job, Measurement, Sample, differing_bytes, read_samples

__all__ = ["FirmwareRunner"]

_TOLERANCE = 1e-4


class FirmwareRunner:
    """Counts instructions on an emulated board.

    Parameters
    ----------
    board : Board
    timeout : float
        Seconds that building and running one firmware may take.

    Raises
    ------
    TargetError
        QEMU has no model of the board.
    """

    metric = "instructions"
    is_noisy = False

    def __init__(self, board: Board, timeout: float = 300.0):
        if not board.emulator:
            raise TargetError(f"QEMU has no model of {board.name}, so that its instructions cannot be counted. `bnncc targets` lists the boards; take an mps2.")
        self.board, self.timeout = board, timeout
        self.machine = f"{board.name}, QEMU"
        self.workers = os.cpu_count() or 1
        self._untuned = functools.lru_cache(maxsize=256)(self._count)

    def best_part(self, target: Target) -> Target:
        """Return the target as it is: it has one variant."""
        return target

    def measure(self, job: Job) -> Measurement:
        """Check and count one candidate; the untuned kernel is counted once."""
        try:
            with tempfile.TemporaryDirectory(prefix="bnncc-tune-") as temporary:
                project = Path(temporary) / "project"
                metadata = write_project(self.board, job.candidate, project)
                names = [[row["name"] for row in metadata[side]] for side in ("inputs", "outputs")]
                samples = read_samples(job.samples)
                given = [dict(zip(names[0], sample.inputs, strict=True)) for sample in samples]
                for sample, made in zip(samples, run_project(project, given, self.timeout), strict=True):
                    for number, (name, right) in enumerate(zip(names[1], sample.outputs, strict=True)):
                        if said := differing_bytes(number, made[name], right):
                            return Measurement("wrong", message=said)
            return Measurement("ok", float(self._count(job.candidate)), float(self._untuned(job.untuned)))
        except BnnccError as error:
            return Measurement("timeout" if "did not finish" in str(error) else "crash", message=str(error))

    def outputs(self, compiled: Path, samples: Sequence[Sample]) -> list[Sample]:
        """Return samples with the outputs that a firmware gives, which are those expected up to the rounding of its float sums.

        Raises
        ------
        InternalError
            They are others.
        """
        with tempfile.TemporaryDirectory(prefix="bnncc-tune-") as temporary:
            project = Path(temporary) / "project"
            metadata = write_project(self.board, compiled, project)
            names = [[row["name"] for row in metadata[side]] for side in ("inputs", "outputs")]
            made = run_project(project, [dict(zip(names[0], sample.inputs, strict=True)) for sample in samples], self.timeout)
        found = []
        for sample, row in zip(samples, made, strict=True):
            outputs = tuple(row[name] for name in names[1])
            for got, right in zip(outputs, sample.outputs, strict=True):
                close = np.allclose(got, right, _TOLERANCE, _TOLERANCE) if right.dtype.kind == "f" else (got == right).all()
                if not close:
                    raise InternalError(f"the untuned kernel gives other outputs on {self.board.name} than it means")
            found.append(Sample(sample.inputs, outputs))
        return found

    def _count(self, compiled: Path) -> int:
        with tempfile.TemporaryDirectory(prefix="bnncc-tune-") as temporary:
            project = Path(temporary) / "project"
            write_project(self.board, compiled, project)
            return sum(row.instructions for row in count_project(project, self.timeout))

    def close(self) -> None:
        """Nothing stays."""
