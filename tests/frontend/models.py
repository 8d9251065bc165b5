"""Small ONNX models for the frontend's tests."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["make_model", "node", "value"]

node = helper.make_node


def value(name: str, shape: object = None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Describe an input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def make_model(
    nodes: list[onnx.NodeProto],
    inputs: object = (1, 4),
    weights: dict[str, np.ndarray] | None = None,
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
    ir: int = 8,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """Build a model; ``inputs`` is the shape of one float input ``x``, or a list of descriptions."""
    described = inputs if isinstance(inputs, list) else [value("x", inputs)]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", described, [helper.make_empty_tensor_value_info(name) for name in outputs], tensors)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)], ir_version=ir
    )
