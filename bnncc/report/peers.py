"""Other programs that run networks, beside which a compiled model is measured; each is imported only when it is asked for."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnncc.errors import InputError, ModelFormatError, ToolchainError

__all__ = ["PEERS", "Peer", "open_peer"]


@dataclass(frozen=True)
class Peer:
    """A network that another program runs: its name and version, and the call that runs it once on its inputs."""

    name: str
    version: str
    call: Callable[[], object]


def _module(name: str, title: str, packages: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ToolchainError(f"{title} is not installed in this Python ({error}), so there is nothing to measure against. Install it: {packages}.") from error


def _openvino(path: Path, inputs: Mapping[str, np.ndarray], threads: int) -> Peer:
    openvino = _module("openvino", "OpenVINO", "`pip install openvino`")
    core = openvino.Core()
    try:
        model = core.read_model(path)
        model.reshape({name: list(array.shape) for name, array in inputs.items()})
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(model, "CPU", options).create_infer_request()
        request.infer(dict(inputs))
    except RuntimeError as error:  # what all of OpenVINO's own errors are
        raise ModelFormatError(f"OpenVINO cannot run {path}: {str(error).strip().splitlines()[-1]}") from error
    return Peer("openvino", openvino.__version__.split("-")[0], lambda: request.infer(dict(inputs)))


_LARQ_MODES = {
    "default": {},
    "indirect BGEMM": {"use_indirect_bgemm": True},
    "XNNPACK": {"use_xnnpack": True},
    "indirect BGEMM, XNNPACK": {"use_indirect_bgemm": True, "use_xnnpack": True},
}
"""Ways in which Larq Compute Engine runs a network; the fastest is the one to be measured."""


def _larq(path: Path, inputs: Mapping[str, np.ndarray], threads: int) -> Peer:
    if path.suffix != ".tflite":
        raise InputError(
            f"Larq Compute Engine reads no ONNX, so it cannot run {path}. Convert the network's Keras form by larq_compute_engine.convert_keras_model, "
            "and give the file it makes: --against larq=MODEL.tflite."
        )
    engine = _module("larq_compute_engine", "Larq Compute Engine", "`pip install larq-compute-engine` (it has packages for Python 3.8 to 3.11 only)")
    interpreter = importlib.import_module("larq_compute_engine.tflite.python.interpreter")
    try:
        content = path.read_bytes()
        networks = {mode: interpreter.Interpreter(content, num_threads=threads, **options) for mode, options in _LARQ_MODES.items()}
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelFormatError(f"Larq Compute Engine cannot run {path}: {error}") from error
    network = networks["default"]
    sizes = sorted(array.size for array in inputs.values())
    if sorted(int(np.prod(shape)) for shape in network.input_shapes) != sizes:
        raise InputError(f"{path} is not the network that was compiled: its inputs have the shapes {network.input_shapes}.")
    by_size = {array.size: array.reshape(-1) for array in inputs.values()}
    given = [by_size[int(np.prod(shape))].reshape(shape) for shape in network.input_shapes]  # its images are NHWC: other pixels, the same work
    calls = {mode: functools.partial(network.predict, given if len(given) > 1 else given[0]) for mode, network in networks.items()}
    best = min(calls, key=lambda mode: _seconds(calls[mode]))
    return Peer("larq", f"{_version('larq-compute-engine', engine)} ({best})", calls[best])


def _version(package: str, module) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return getattr(module, "__version__", "?")


def _seconds(call: Callable[[], object]) -> float:
    """Return the time of the fastest of three calls."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


PEERS: dict[str, Callable[[Path, Mapping[str, np.ndarray], int], Peer]] = {"openvino": _openvino, "larq": _larq}
"""By the name that `--against` takes."""


def open_peer(name: str, path: str | Path, inputs: Mapping[str, np.ndarray], threads: int) -> Peer:
    """Load a network into another program.

    Parameters
    ----------
    name : str
        Of `PEERS`.
    path : path
        The network, in a form that the program reads.
    inputs : mapping of str to ndarray
        What it is run on.
    threads : int

    Raises
    ------
    ToolchainError
        The program is not installed.
    InputError, ModelFormatError
        There is no such program, or it cannot run this network.
    """
    if name not in PEERS:
        raise InputError(f"There is no program {name!r} to measure against; give a model for onnxruntime, or one of {', '.join(PEERS)} and a model.")
    path = Path(path)
    if not path.is_file():
        raise ModelFormatError(f"The model {path} to compare with does not exist.")
    return PEERS[name](path, inputs, threads)
