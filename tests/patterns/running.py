"""Reference results by onnxruntime, and sample inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

__all__ = ["reference", "sample_inputs"]


def reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run `model` in onnxruntime with graph optimization off; return its outputs by name."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds)))


def sample_inputs(model: onnx.ModelProto, seed: int, shapes: dict[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    """Draw small integers for every input of `model` that is not a weight; `shapes` fixes dynamic dimensions, which are 1 else."""
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in weights:
            shape = (shapes or {}).get(value.name) or [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
            feeds[value.name] = rng.integers(-4, 5, shape).astype(np.float32)
    return feeds
