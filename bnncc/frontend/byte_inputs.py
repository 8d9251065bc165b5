"""Images as a camera gives them: an input of float32 becomes one of uint8, and the graph itself says what a byte stands for.

The rewritten graph is the reference as well, so that onnxruntime computes from the same bytes::

    y = Conv(x, w)        ->        x.float = Cast(x);  x.shifted = Sub(x.float, zero);  x.real = Mul(x.shifted, scale);  y = Conv(x.real, w)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bnncc.errors import InputError
from bnncc.frontend.onnx_graph import all_graphs, all_names, fresh_name
from bnncc.spec import ByteInput

__all__ = ["take_bytes"]


def take_bytes(model: onnx.ModelProto, given: Mapping[str, ByteInput]) -> None:
    """Make inputs of a model, in place, take bytes.

    Parameters
    ----------
    model : ModelProto
        Its inputs are float32.
    given : mapping of str to ByteInput
        Input name to what its bytes stand for; the name ``""`` is the model's only input.

    Raises
    ------
    InputError
        There is no such input, or it is none of float32.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in stored}
    for asked, meaning in given.items():
        known = ", ".join(f"'{name}'" for name in inputs)
        if asked not in inputs and (asked or len(inputs) != 1):
            what = f"there is no input {asked!r}" if asked else f"the model has {len(inputs)} inputs, so --input-type has to name one: NAME=uint8"
            raise InputError(f"An input of bytes was asked for, but {what}. Inputs: {known}.")
        name = asked or next(iter(inputs))
        tensor = inputs[name].type.tensor_type
        if tensor.elem_type != onnx.TensorProto.FLOAT:
            found = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
            raise InputError(f"The input '{name}' is {found}; only float32 inputs can be made to take bytes. Leave out --input-type for it.")
        tensor.elem_type = onnx.TensorProto.UINT8
        _insert(model.graph, name, meaning)


def _insert(graph: onnx.GraphProto, name: str, meaning: ByteInput) -> None:
    """Let everything that reads the input read the number that its byte stands for."""
    taken = all_names(graph) | {node.name for node in graph.node}
    steps = [("float", "Cast", None), ("shifted", "Sub", meaning.zero), ("real", "Mul", meaning.scale)]
    nodes, last = [], name
    for suffix, operator, number in steps:
        if number == (0.0 if operator == "Sub" else 1.0):
            continue  # the number itself: nothing is rounded
        made = fresh_name(f"{name}.{suffix}", taken)
        operands = [last]
        if number is not None:
            operands.append(fresh_name(f"{made}.by", taken))
            graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), operands[1]))
        attributes = {"to": onnx.TensorProto.FLOAT} if operator == "Cast" else {}
        nodes.append(helper.make_node(operator, operands, [made], name=made, **attributes))
        last = made
    for inner in all_graphs(graph):
        for node in inner.node:
            for i, read in enumerate(node.input):
                if read == name:
                    node.input[i] = last
    for value in graph.output:
        if value.name == name:
            nodes.append(helper.make_node("Identity", [last], [fresh_name(f"{name}.out", taken)]))
            value.name = nodes[-1].output[0]
    for node in reversed(nodes):
        graph.node.insert(0, node)
