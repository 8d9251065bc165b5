"""Half precision to single: the compiler computes floats in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from bnncc.frontend.onnx_graph import all_graphs

__all__ = ["to_single_precision"]

_HALF, _SINGLE = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def to_single_precision(model: onnx.ModelProto, warnings: list[str]) -> None:
    """Rewrite a float16 model, in place, so that it computes in float32: inputs, weights, casts and outputs."""
    count = 0
    for graph in all_graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == _HALF:
                value.type.tensor_type.elem_type = _SINGLE
                count += 1
        for tensor in graph.initializer:
            count += _widen(tensor)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == _HALF:
                    attribute.i = _SINGLE
                    count += 1
                for tensor in (attribute.t, *attribute.tensors):
                    count += _widen(tensor)
    if count:
        warnings.append(
            "The model uses float16. It is compiled, and its reference computed, in float32, so results are a little more precise than in "
            "float16; float16 inputs and outputs become float32."
        )


def _widen(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != _HALF:
        return False
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    return True
