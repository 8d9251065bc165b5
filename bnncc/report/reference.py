"""The reference: onnxruntime on the ONNX model as it is, its graph not optimized, with the tensors in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from bnncc.errors import ModelFormatError

__all__ = ["Reference", "decide_zeros"]


class Reference:
    """Runs a model and returns the tensors asked for.

    Parameters
    ----------
    model : ModelProto
    names : iterable of str
        Tensors anywhere in its graph.

    Raises
    ------
    ModelFormatError
        onnxruntime does not take the model.
    """

    def __init__(self, model: onnx.ModelProto, names: Iterable[str]):
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        graph = exposed.graph
        self._inputs = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
        self._stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        present = {value.name for value in graph.output}
        self._names = list(dict.fromkeys(names))
        self._computed = [name for name in self._names if name not in self._inputs and name not in self._stored]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._computed if name not in present)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # what it says comes as an exception
        try:
            self._session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes share no base
            raise ModelFormatError(
                f"onnxruntime, which verify compares with, cannot run the model: {error}. Check the model with onnx.checker, "
                "or export it with an opset that the installed onnxruntime knows."
            ) from error

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors by name, on one sample."""
        given = {name: array for name, array in inputs.items() if name in self._inputs}
        try:
            results = self._session.run(self._computed, given) if self._computed else []
        except Exception as error:  # what its kernels refuse, it says only when they run
            raise ModelFormatError(f"onnxruntime, which verify compares with, cannot run the model: {error}.") from error
        known = {**self._stored, **inputs, **dict(zip(self._computed, results, strict=True))}
        return {name: known[name] for name in self._names}


def decide_zeros(model: onnx.ModelProto, decisions: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """Return a model in which some tensors never hold one of their values.

    Parameters
    ----------
    model : ModelProto
    decisions : mapping of str to (float, float)
        Tensor to the value that is replaced (a Sign's 0, as the tensor scales it), and what it becomes.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = []
    for node in model.graph.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        nodes.append(copied)
        for i, name in enumerate(node.output):
            if name not in decisions:
                continue
            copied.output[i] = f"{name}.undecided"
            for part, value in zip(("zero", "decided"), decisions[name], strict=True):
                changed.graph.initializer.append(numpy_helper.from_array(np.float32(value).reshape(()), f"{name}.{part}"))
            nodes.append(helper.make_node("Equal", [f"{name}.undecided", f"{name}.zero"], [f"{name}.is_zero"]))
            nodes.append(helper.make_node("Where", [f"{name}.is_zero", f"{name}.decided", f"{name}.undecided"], [name]))
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed
