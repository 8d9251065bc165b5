"""Run an imported module and its reference on the same inputs, and compare every tensor they share."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import tvm
from tvm import relax

from bnncc.frontend import ImportedModel
from bnncc.ops.interpreter import run_module

__all__ = ["run_onnx", "run_tvm", "random_feeds", "differences", "tensor_differences"]


def run_onnx(model: onnx.ModelProto, feeds: dict[str, np.ndarray], names: list[str] | None = None) -> list[np.ndarray]:
    """Run a model in onnxruntime as written; ``names`` may be inner tensors."""
    if names is not None:
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        del watched.graph.output[:]
        watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        model = watched
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(names, feeds)


def run_tvm(imported: ImportedModel, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Compile the module with TVM as it comes and run it."""
    machine = relax.VirtualMachine(tvm.compile(imported.mod, tvm.target.Target("llvm")), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(feeds[spec.name]) for spec in imported.inputs))
    return [r.numpy() for r in ([result] if len(imported.outputs) == 1 else result)]


def random_feeds(imported: ImportedModel, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw an array for each input: normal floats, small integers, coin flips."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for spec in imported.inputs:
        kind = np.dtype(spec.dtype).kind
        low = {"b": 0, "u": 0}.get(kind, -9)
        values = rng.standard_normal(spec.shape) if kind == "f" else rng.integers(low, 2 if kind == "b" else 10, spec.shape)
        feeds[spec.name] = np.asarray(values).astype(spec.dtype)
    return feeds


def differences(names: list[str], got: list[np.ndarray], want: list[np.ndarray], tolerance: float) -> list[str]:
    """One line for each tensor with another shape, dtype, or values further apart than the tolerance."""
    lines = []
    for name, a, b in zip(names, got, want, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            lines.append(f"{name}: {a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}")
        elif not np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=tolerance, atol=tolerance):
            lines.append(f"{name}: off by up to {np.nanmax(np.abs(a.astype(np.float64) - b.astype(np.float64)))}")
    return lines


def tensor_differences(imported: ImportedModel, feeds: dict[str, np.ndarray], tolerance: float = 1e-5) -> list[str]:
    """Compare every ONNX tensor that a Relax variable claims to hold with onnxruntime's, the module run in NumPy."""
    seen: dict[str, np.ndarray] = {}
    run_module(imported.mod, *(feeds[spec.name] for spec in imported.inputs), observe=lambda name, value: seen.update({name: value}))
    inputs = {spec.name for spec in imported.inputs}
    claimed = {var: tensor for var, tensor in imported.tensors.items() if tensor not in inputs}
    tensors = list(claimed.values())
    return differences(tensors, [seen[var] for var in claimed], run_onnx(imported.reference, feeds, tensors), tolerance)
