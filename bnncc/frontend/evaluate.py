"""Computing the part of a graph that does not depend on its inputs, with onnxruntime as it is in the reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from bnncc.errors import ModelFormatError
from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, node_reads, title

__all__ = ["constant_closure", "evaluate", "exact_session"]

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


def exact_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session that runs the model as written: no graph optimization, CPU."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def is_pure(node: onnx.NodeProto) -> bool:
    """Whether the node gives the same result each time: a standard operator that draws no random numbers."""
    return node.domain in STANDARD_DOMAINS and node.op_type not in _RANDOM and onnx.defs.has(node.op_type)


def constant_closure(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all tensors that follow from initializers and constants alone; nodes must be sorted."""
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        reads = node_reads(node)
        if is_pure(node) and (reads or node.op_type == "Constant") and all(name in known for name in reads):
            known.update(name for name in node.output if name)
    return known


def evaluate(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """Compute constant tensors in one run.

    Parameters
    ----------
    model
        The model they belong to, nodes sorted.
    names
        Tensors in ``constant_closure(model.graph)`` that nodes compute.

    Raises
    ------
    ModelFormatError
        onnxruntime cannot compute them.
    """
    graph = model.graph
    needed, nodes = set(names), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node_reads(node))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    part = onnx.helper.make_model(onnx.helper.make_graph(nodes[::-1], "constants", [], outputs, weights), opset_imports=model.opset_import)
    part.ir_version = 10
    try:
        values = exact_session(part).run(names, {})
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = " ".join(str(error).split())
        raise ModelFormatError(
            f"The constant part of the model (up to {title(nodes[0])}) cannot be computed: {reason}. Export the model again, with "
            "constant folding on."
        ) from error
    return dict(zip(names, values))
