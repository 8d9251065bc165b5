"""Compile and run a model in a process of its own: code that crashes fails one test, not the whole run."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import onnx

__all__ = ["Isolated"]


def _problems(model: bytes, bits: tuple[str, ...]) -> list[str]:
    from patterns.comparing import compare, misplaced

    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact, wrong = compare(onnx.load_from_string(model), Path(folder) / "out", rtol=0, atol=0)
        except Exception as error:  # to be told by its text: not every exception of TVM can be pickled
            return [f"{type(error).__name__}: {error}"]
        return wrong + misplaced(artifact, {name: True for name in bits})


class Isolated:
    """One worker process, started on first use, and again when it died."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def problems(self, model: onnx.ModelProto, bits: tuple[str, ...]) -> list[str]:
        """Compare `model`, compiled, with onnxruntime, bit for bit; one line for each difference, error or crash.

        `bits` names the nodes that must run on bits.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            return self._pool.submit(_problems, model.SerializeToString(), bits).result()
        except BrokenProcessPool:
            self.close()
            return ["the process that compiled or ran the model died"]

    def close(self) -> None:
        """End the worker."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
