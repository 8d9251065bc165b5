"""The runner of this machine: every candidate in a fresh process, which may crash or hang."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bnncc.errors import TargetError, ToolchainError
from bnncc.runtime import CompiledModel, load
from bnncc.targets import Target
from bnncc.targets.x86 import runs_here
from bnncc.toolchain import find_compiler, is_native
from bnncc.tuning.runner import Job, Measurement

__all__ = ["LocalRunner"]


class LocalRunner:
    """Measures seconds on this machine, one candidate at a time.

    Parameters
    ----------
    machine : str
        The processor's name.
    timeout : float
        Seconds that a candidate may take in all.

    Raises
    ------
    ToolchainError
        There is no C compiler.
    """

    metric = "seconds"
    workers = 1
    is_noisy = True

    def __init__(self, machine: str, timeout: float = 60.0):
        self.machine, self.timeout = machine, timeout
        self._folder = tempfile.TemporaryDirectory(prefix="bnncc-clock-")
        self._clock = Path(self._folder.name) / "measure.so"
        source = Path(__file__).with_name("measure.c")
        command = [*find_compiler(f"{platform.machine()}-linux-gnu"), "-std=c99", "-O2", "-fPIC", "-shared", "-o", str(self._clock), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise ToolchainError(f"The C compiler failed to build the tuner's clock (exit {done.returncode}): {done.stderr.strip()[-500:]}")

    def best_part(self, target: Target) -> Target:
        """Return the target with the best variant that this machine runs.

        Raises
        ------
        TargetError
            There is none.
        """
        found = [v for v in target.variants if is_native(v.tvm_target["mtriple"]) and not v.is_source and runs_here(v)]
        if not found:
            raise TargetError(
                f"This machine does not run {target.name}, so it cannot measure kernels for it. Tune with --target native, on devices with --rpc, by "
                "instructions with --emulate (64-bit Arm), or for a microcontroller with --board."
            )
        return replace(target, variants=(found[-1],))

    def load(self, folder: Path) -> CompiledModel:
        """Return a compiled model that runs here."""
        return load(folder)

    def measure(self, job: Job) -> Measurement:
        """Check and measure one candidate; one that crashes is tried once more, as its process may have been killed from outside."""
        found = self._measure(job)
        return found if found.status != "crash" else self._measure(job)

    def _measure(self, job: Job) -> Measurement:
        request = {
            "candidate": str(job.candidate),
            "untuned": str(job.untuned),
            "samples": str(job.samples),
            "calls": job.calls,
            "clock": str(self._clock),
        }
        command = [sys.executable, "-m", "bnncc.tuning.measure"]
        try:
            done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, errors="replace", timeout=self.timeout, check=False)
        except subprocess.TimeoutExpired:
            return Measurement("timeout", message=f"it did not end within {self.timeout:g} s")
        try:
            return Measurement(**json.loads(done.stdout.splitlines()[-1]))
        except (ValueError, TypeError, IndexError):
            last = done.stderr.strip().splitlines()[-1:]
            return Measurement("crash", message=f"its process ended with {done.returncode}{': ' + last[0] if last else ''}")

    def close(self) -> None:
        """Remove the clock."""
        self._folder.cleanup()
