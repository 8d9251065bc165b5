"""One ONNX operator run by onnxruntime, to compare a Relax operator's NumPy meaning with."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["run_node"]


def run_node(op_type: str, *arrays: np.ndarray, outputs: int = 1, opset: int = 18, constants: tuple[int, ...] = (), **attributes):
    """Run one node with graph optimization off.

    Parameters
    ----------
    *arrays : ndarray
        Inputs; those whose positions are in `constants` become initializers.
    """
    names = [f"i{i}" for i in range(len(arrays))]
    outs = [f"o{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, outs, **attributes)
    types = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in arrays]
    fed = [i for i in range(len(arrays)) if i not in constants]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(names[i], types[i], arrays[i].shape) for i in fed],
        [helper.make_tensor_value_info(o, TensorProto.UNDEFINED, None) for o in outs],
        [numpy_helper.from_array(arrays[i], names[i]) for i in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    for output in model.graph.output:
        output.ClearField("type")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result = session.run(None, {names[i]: arrays[i] for i in fed})
    return result if outputs > 1 else result[0]
