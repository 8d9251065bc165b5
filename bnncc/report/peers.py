"""Other programs that run networks, beside which a compiled model is measured; each is imported only when it is asked for."""

from __future__ import annotations

import importlib
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


def _larq(path: Path, inputs: Mapping[str, np.ndarray], threads: int) -> Peer:
    if path.suffix != ".tflite":
        raise InputError(
            f"Larq Compute Engine reads no ONNX, so it cannot run {path}. Convert the network's Keras form by larq_compute_engine.convert_keras_model, "
            "and give the file it makes: --against larq=MODEL.tflite."
        )
    engine = _module("larq_compute_engine", "Larq Compute Engine", "`pip install larq-compute-engine` (it has packages for Python 3.8 to 3.11 only)")
    interpreter = importlib.import_module("larq_compute_engine.tflite.python.interpreter")
    try:
        network = interpreter.Interpreter(path.read_bytes(), num_threads=threads)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelFormatError(f"Larq Compute Engine cannot run {path}: {error}") from error
    sizes = sorted(array.size for array in inputs.values())
    if sorted(int(np.prod(shape)) for shape in network.input_shapes) != sizes:
        raise InputError(f"{path} is not the network that was compiled: its inputs have the shapes {network.input_shapes}.")
    by_size = {array.size: array.reshape(-1) for array in inputs.values()}
    given = [by_size[int(np.prod(shape))].reshape(shape) for shape in network.input_shapes]  # its images are NHWC: other pixels, the same work
    return Peer("larq", getattr(engine, "__version__", "?"), lambda: network.predict(given if len(given) > 1 else given[0]))


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
