"""The runner of real microcontrollers: a firmware of each candidate is flashed, and says over a serial port what came out and in how many cycles.

Outputs are compared by their checksums, as a serial port carries ten thousand bytes a second: those of the untuned kernel with the right ones, where these are
no floats, whose sums another processor rounds in another order; those of candidates with the untuned kernel's on the same board.
"""

from __future__ import annotations

import functools
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnncc.boards.manifest import Board
from bnncc.boards.serial_trial import Answer, check_board, run_trial
from bnncc.errors import BnnccError, DeviceError, InternalError
from bnncc.targets import Target
from bnncc.tuning.runner import Job, Measurement, Sample, read_samples

__all__ = ["SerialRunner"]


class SerialRunner:
    """Counts cycles on a board at a serial port.

    Parameters
    ----------
    board : Board
    port : Path
    timeout : float
        Seconds that the board may take to answer.

    Raises
    ------
    TargetError
        The board's manifest names no serial port or no programmer.
    """

    metric = "cycles"
    workers = 1
    is_noisy = False

    def __init__(self, board: Board, port: Path, timeout: float = 60.0):
        check_board(board)
        self.board, self.port, self.timeout = board, Path(port), timeout
        self.machine = board.name
        self._untuned = functools.lru_cache(maxsize=256)(lambda compiled, samples: self._run(compiled, read_samples(samples)))

    def best_part(self, target: Target) -> Target:
        """Return the target as it is: it has one variant."""
        return target

    def measure(self, job: Job) -> Measurement:
        """Check and measure one candidate; the untuned kernel is measured once."""
        try:
            right = self._untuned(job.untuned, job.samples)
            made = right if job.candidate == job.untuned else self._run(job.candidate, read_samples(job.samples))
        except DeviceError as error:
            return Measurement("timeout", message=str(error))
        except BnnccError as error:
            return Measurement("crash", message=str(error))
        if made.wrong:
            return Measurement("wrong", message=made.wrong)
        if made.sums != right.sums:
            differing = sum(one != other for one, other in zip(made.sums, right.sums, strict=True))
            return Measurement("wrong", message=f"{differing} of {len(right.sums)} outputs differ by their checksums")
        return Measurement("ok", float(made.cycles), float(right.cycles))

    def outputs(self, compiled: Path, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples, after the board gave their outputs.

        Raises
        ------
        DeviceError
            It did not answer.
        InternalError
            It gave others, where they are no floats.
        """
        answer = self._run(compiled, samples)
        wanted = [output for sample in samples for output in sample.outputs]
        for made, right in zip(answer.sums, wanted, strict=True):
            if answer.wrong or (right.dtype.kind != "f" and made != zlib.crc32(np.ascontiguousarray(right).tobytes())):
                raise InternalError(f"the untuned kernel gives other outputs on {self.board.name} than it means {answer.wrong}".rstrip())
        return list(samples)

    def _run(self, compiled: Path, samples: Sequence[Sample]) -> Answer:
        with tempfile.TemporaryDirectory(prefix="bnncc-tune-") as temporary:
            return run_trial(self.board, self.port, compiled, [sample.inputs for sample in samples], Path(temporary), self.timeout)

    def close(self) -> None:
        """Nothing stays."""
