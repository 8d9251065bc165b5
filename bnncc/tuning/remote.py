"""The runner of devices that TVM's RPC makes reachable: any number of one key, which a tracker gives out, measure side by side."""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bnncc.errors import DeviceError, TargetError, ToolchainError
from bnncc.remote import Device, RemoteLibrary, compile_for_device, count_devices, load_remote
from bnncc.runtime import CompiledModel, load
from bnncc.runtime.library import checked_library
from bnncc.targets import Target
from bnncc.targets.x86 import has_features
from bnncc.tuning.record import EMULATED_SECONDS
from bnncc.tuning.runner import Job, Measurement, Sample, differing_bytes, read_samples

__all__ = ["RemoteRunner"]

_WARM_UP = 3
_BREAKS = 3
"""So many sessions may break over one candidate before it is taken for the reason."""
_PAUSE = 1.0  # seconds before a device is asked for again
_KILLED = -2000
_TOLD = {
    -1000: "the device lacks instructions that it needs",
    -1001: "it has too many tensors",
    -1002: "it wrote outside of an output",
    -1003: "the device cannot load it",
    -1004: "the device has no memory for it",
}


class RemoteRunner:
    """Measures seconds on devices.

    A device that dies or says nothing is dropped, as the tracker gives it out no more, and its candidate is measured again on another one.

    Parameters
    ----------
    device : Device
        With the address of a tracker, every device of the key that it knows; its time-out is for each step of a trial.
    triple : str
    patience : float
        Seconds to wait for a device, as when the tracker or all devices start again, before tuning ends.

    Raises
    ------
    DeviceError
        No device answers.
    ToolchainError
        There is no C compiler for the devices.
    """

    is_noisy = True

    def __init__(self, device: Device, triple: str, patience: float = 120.0):
        self.device, self._patience = device, patience
        self.workers = count_devices(device)
        self._folder = tempfile.TemporaryDirectory(prefix="bnncc-trial-")
        self._trial = Path(self._folder.name) / "trial.so"
        source = Path(__file__).with_name("trial.c")
        compile_for_device(triple, source, self._trial, "-ldl")
        machine = RemoteLibrary(device, self._trial).machine()
        self._features = machine.features
        self.machine = f"{device.key}: {machine}" if device.key else str(machine)
        self.metric = EMULATED_SECONDS if machine.emulated else "seconds"

    def best_part(self, target: Target) -> Target:
        """Return a target with the best of its variants that the devices run; one variant stays as it is.

        Raises
        ------
        TargetError
            They run none.
        """
        if len(target.variants) == 1:
            return target
        found = [variant for variant in target.variants if has_features(self._features, variant)]
        if not found:
            raise TargetError(
                f"The device ({self.machine}) has the instructions of none of the variants of {target.name}; name a target of its own instruction set."
            )
        return replace(target, variants=(found[-1],))

    def load(self, folder: Path) -> CompiledModel:
        """Return a compiled model that runs here where that can be, as a device is farther away, else on a device."""
        try:
            return load(folder)
        except (TargetError, ToolchainError):
            return load_remote(folder, self.device)

    def measure(self, job: Job) -> Measurement:
        """Check and measure one candidate on a device that is free.

        Raises
        ------
        DeviceError
            There was no device for as long as the runner has patience.
        """
        end, breaks = time.monotonic() + self._patience, 0
        while True:
            try:
                library = RemoteLibrary(self.device, self._trial)
            except DeviceError:
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE)
                continue
            try:
                return _Trial(library, job, max(1, int(self.device.timeout * 0.7))).measure()
            except DeviceError as error:
                breaks, end = breaks + 1, time.monotonic() + self._patience
                if breaks == _BREAKS:
                    return Measurement("crash", message=f"{breaks} sessions broke over it; the last: {error}")

    def close(self) -> None:
        """Remove what was compiled for the devices."""
        self._folder.cleanup()


class _Trial:
    """One candidate on one device."""

    def __init__(self, library: RemoteLibrary, job: Job, seconds: int):
        self.library, self.job, self.seconds = library, job, seconds
        self.samples = read_samples(job.samples)
        folders = [job.candidate] + [job.untuned] * (job.untuned != job.candidate)
        found = [checked_library(folder) for folder in folders]
        self.workspaces = [metadata["workspace_bytes"] for _, metadata in found]
        self.paths = [library.upload(file, f"kernel{number}.so") for number, (file, _) in enumerate(found)]

    def measure(self) -> Measurement:
        """Check all samples, then time the first."""
        try:
            for sample in self.samples:
                failed = self._run(sample, 0)[0]
                if failed is not None:
                    return failed
            failed, times = self._run(self.samples[0], self.job.calls + _WARM_UP)
            if failed is not None:
                return failed
            medians = [statistics.median(column[_WARM_UP:].tolist()) * 1e-9 for column in times.T]
            return Measurement("ok", medians[0], medians[-1])
        finally:
            try:
                for number in range(len(self.paths)):
                    self.library.remove(f"kernel{number}.so")
            except DeviceError:
                pass  # the session broke, and the device removes its files itself

    def _run(self, sample: Sample, calls: int) -> tuple[Measurement | None, np.ndarray]:
        """Run the kernels once, or so often in turns; return what is wrong, and nanoseconds[call, kernel]."""
        kernels, library, inputs, expected = len(self.paths), self.library, sample.inputs, sample.outputs
        workspaces = [*self.workspaces, 0][:2]
        numbers = np.array([calls, self.seconds, kernels, len(inputs), len(expected), *workspaces], np.int64)
        paths = b"".join(path.encode() + b"\0" for path in self.paths)
        ns, *outputs = library.room(8 * calls * kernels, *(array.nbytes for array in expected))
        code = library.call("bnncc_trial", *library.sent(paths, numbers.tobytes()), ns, *library.sent(*(a.tobytes() for a in inputs)), *outputs)
        times = np.zeros((calls, kernels), np.uint64)
        if code:
            return _failure(code, self.seconds), times
        for place, (given, right) in enumerate(zip(outputs, expected, strict=True)):
            if said := differing_bytes(place, library.fetched(given, right.nbytes), right):
                return Measurement("wrong", message=said), times
        if calls:
            times = np.frombuffer(library.fetched(ns, times.nbytes), np.uint64).reshape(times.shape)
        return None, times


def _failure(code: int, seconds: int) -> Measurement:
    if code == _KILLED - signal.SIGALRM:
        return Measurement("timeout", message=f"it did not end within {seconds} s")
    if code < _KILLED:
        return Measurement("crash", message=f"its process on the device was ended by signal {_KILLED - code}")
    if code == -1002:
        return Measurement("wrong", message=_TOLD[code])
    return Measurement("crash", message=_TOLD.get(code, f"it returned {code}"))
