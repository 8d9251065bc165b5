"""Measures one candidate in a process of its own: ``python -m bnncc.tuning.measure``, a job as JSON on stdin, a line of JSON on stdout.

It knows NumPy and the compiled models, not TVM, and so is up in a fraction of a second.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnncc.runtime.library import checked_library
from bnncc.tuning.runner import differing_bytes, read_samples

__all__ = ["main"]

_GUARD = 64
_EVICTING_BYTES = 1 << 21  # more than the L2 cache of a core
_WARM_UP = 3


def _aligned(nbytes: int) -> np.ndarray:
    raw = np.full(nbytes + 128, 0xA5, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + max(nbytes, 1)]


def _placed(array: np.ndarray) -> np.ndarray:
    """Return a copy that begins at a cache line, as tensors of a network do."""
    copy = _aligned(array.nbytes)
    copy[: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    return copy[: array.nbytes].view(array.dtype).reshape(array.shape)


class _Kernel:
    """A compiled model of one kernel, with memory of its own for outputs and workspace."""

    def __init__(self, folder: Path):
        file, self.metadata = checked_library(folder)
        library = ctypes.CDLL(str(file))
        variant = getattr(library, f"{self.metadata['name']}_variant")
        variant.restype = ctypes.c_char_p
        if variant() is None:
            raise OSError(f"this machine lacks instructions that {self.metadata['target']} has")
        self.function = getattr(library, self.metadata["entries"]["main"]["symbol"])
        self.function.restype, self.function.argtypes = ctypes.c_int32, [ctypes.c_void_p] * 3
        self.workspace = _aligned(self.metadata["workspace_bytes"])
        self.sizes = [int(np.prod(row["shape"], dtype=np.int64)) * np.dtype(row["dtype"]).itemsize for row in self.metadata["outputs"]]
        self.outputs = [_aligned(size + 2 * _GUARD) for size in self.sizes]
        self.out = (ctypes.c_void_p * len(self.outputs))(*(array.ctypes.data + _GUARD for array in self.outputs))

    def wrong(self, inputs: list[np.ndarray], expected: Sequence[np.ndarray]) -> str:
        """Run once and say what is wrong with the outputs; empty where nothing is."""
        for array in self.outputs:
            array[:] = 0xA5
        self.workspace[:] = 0xA5  # a kernel must not rely on what it finds
        pointers = (ctypes.c_void_p * max(len(inputs), 1))(*(array.ctypes.data for array in inputs))
        code = self.function(pointers, self.out, self.workspace.ctypes.data)
        if code:
            return f"it returned {code}"
        for number, (array, right) in enumerate(zip(self.outputs, expected, strict=True)):
            if (array[:_GUARD] != 0xA5).any() or (array[_GUARD + right.nbytes :] != 0xA5).any():
                return f"it wrote outside of output {number}"
            if said := differing_bytes(number, array[_GUARD : _GUARD + right.nbytes], right):
                return said
        return ""


def _medians(clock, kernels: list[_Kernel], inputs: list[np.ndarray], calls: int) -> list[float]:
    count = len(kernels)
    evicting = np.zeros(_EVICTING_BYTES, np.uint8)
    own = [(ctypes.c_void_p * max(len(inputs), 1))(*(array.ctypes.data for array in inputs)) for _ in kernels]
    functions = (ctypes.c_void_p * count)(*(ctypes.cast(kernel.function, ctypes.c_void_p).value for kernel in kernels))
    ins = (ctypes.c_void_p * count)(*(ctypes.addressof(array) for array in own))
    outs = (ctypes.c_void_p * count)(*(ctypes.addressof(kernel.out) for kernel in kernels))
    workspaces = (ctypes.c_void_p * count)(*(kernel.workspace.ctypes.data for kernel in kernels))
    sizes = (ctypes.c_uint64 * max(len(inputs), 1))(*(array.nbytes for array in inputs))
    ns = np.zeros(((calls + _WARM_UP), count), np.uint64)
    code = clock.measure(
        count, functions, ins, outs, workspaces, len(inputs), sizes, ctypes.c_void_p(evicting.ctypes.data), ctypes.c_uint64(_EVICTING_BYTES),
        calls + _WARM_UP, ctypes.c_void_p(ns.ctypes.data),
    )  # fmt: skip
    if code:
        raise OSError(f"a kernel returned {code}")
    return [statistics.median(column[_WARM_UP:].tolist()) * 1e-9 for column in ns.T]


def main() -> None:
    """Measure the job on stdin."""
    job = json.load(sys.stdin)
    samples = [([_placed(array) for array in sample.inputs], sample.outputs) for sample in read_samples(Path(job["samples"]))]
    kernels = [_Kernel(Path(job["candidate"]))]
    for inputs, expected in samples:
        if message := kernels[0].wrong(inputs, expected):
            print(json.dumps({"status": "wrong", "message": message}))
            return
    if job["untuned"] != job["candidate"]:
        kernels.append(_Kernel(Path(job["untuned"])))
    times = _medians(ctypes.CDLL(job["clock"]), kernels, samples[0][0], job["calls"])
    print(json.dumps({"status": "ok", "value": times[0], "untuned_value": times[-1]}))


if __name__ == "__main__":
    main()
