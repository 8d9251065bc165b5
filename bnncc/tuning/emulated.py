"""The runner of 64-bit Arm where there is none: candidates run under qemu-aarch64, which counts their instructions.

Instructions are a metric of their own: the emulator models neither pipelines nor caches, so that they are not time. They do not depend on what else the machine
does.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bnncc.errors import BnnccError, ToolchainError
from bnncc.runtime import CompiledModel, load
from bnncc.runtime.library import checked_library
from bnncc.targets import Target
from bnncc.toolchain import find_compiler, find_emulator
from bnncc.tuning.runner import Job, Measurement, Sample, differing_bytes, read_samples

__all__ = ["EmulatedRunner"]


class EmulatedRunner:
    """Counts instructions of libraries for 64-bit Arm.

    Parameters
    ----------
    triple : str
    machine : str
        What the kernels are for; the record names it, and the emulator.
    timeout : float
        Seconds that one candidate may take.

    Raises
    ------
    ToolchainError
        There is no emulator or no compiler.
    """

    metric = "instructions"
    is_noisy = False

    def __init__(self, triple: str, machine: str, timeout: float = 300.0):
        find_emulator(triple)  # raises where there is none, before anything long
        self.triple, self.timeout = triple, timeout
        self.machine = f"{machine}, qemu-aarch64"
        self.workers = os.cpu_count() or 1
        self._folder = tempfile.TemporaryDirectory(prefix="bnncc-count-")
        self._plugin = Path(self._folder.name) / "count.so"
        source = Path(__file__).with_name("count_instructions.c")
        self._compile(f"{platform.machine()}-linux-gnu", "-O2", "-shared", "-fPIC", "-o", str(self._plugin), str(source))
        self._untuned = functools.lru_cache(maxsize=256)(self._count)

    def best_part(self, target: Target) -> Target:
        """Return the target as it is: it has one variant."""
        return target

    def load(self, folder: Path) -> CompiledModel:
        """Return a compiled model that the emulator runs."""
        return load(folder)

    def measure(self, job: Job) -> Measurement:
        """Check and count one candidate; the untuned kernel is counted once."""
        try:
            samples = read_samples(job.samples)
            model = load(job.candidate)
            for sample in samples:
                made = model.run_entry("main", *sample.inputs)
                for number, (found, right) in enumerate(zip(made, sample.outputs, strict=True)):
                    if said := differing_bytes(number, found, right):
                        return Measurement("wrong", message=said)
            value = float(self._count(job.candidate, job.samples))
            untuned = value if job.candidate == job.untuned else float(self._untuned(job.untuned, job.samples))
            return Measurement("ok", value, untuned)
        except BnnccError as error:
            return Measurement("crash", message=str(error))
        except subprocess.TimeoutExpired:
            return Measurement("timeout", message=f"it did not end within {self.timeout:g} s")

    def _count(self, compiled: Path, samples: Path) -> int:
        sample: Sample = read_samples(samples)[0]
        library, metadata = checked_library(compiled)
        entry = metadata["entries"]["main"]
        with tempfile.TemporaryDirectory(prefix="bnncc-count-") as temporary:
            program, inputs = Path(temporary) / "call", Path(temporary) / "inputs"
            inputs.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in sample.inputs))
            source = Path(__file__).with_name("count_call.c")
            self._compile(
                self.triple, "-O1", f"-DMODEL_RUN={entry['symbol']}", "-o", str(program), str(source), str(library), f"-Wl,-rpath,{library.parent}"
            )
            sizes = [*(array.nbytes for array in sample.inputs), 0, *(array.nbytes for array in sample.outputs), 0, metadata["workspace_bytes"]]
            command = [*find_emulator(self.triple), "-plugin", str(self._plugin), str(program), str(inputs), *map(str, sizes)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=self.timeout, check=False)
        try:
            return int(done.stderr.splitlines()[-1].split()[0])
        except (ValueError, IndexError):
            raise ToolchainError(f"The emulator ended with {done.returncode} and counted nothing: {done.stderr.strip()[-500:]}") from None

    @staticmethod
    def _compile(triple: str, *options: str) -> None:
        done = subprocess.run([*find_compiler(triple), *options], capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise ToolchainError(f"The C compiler failed to build the tuner's counter (exit {done.returncode}): {done.stderr.strip()[-500:]}")

    def close(self) -> None:
        """Remove the counter."""
        self._folder.cleanup()
