"""Nodes that hand their first input on unchanged: Identity, Dropout, casts and reshapes to the same."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, attributes, outer_names, subgraphs
from bnncc.frontend.shapes import TensorType

__all__ = ["remove_no_ops"]

_SAME_WHEN_SHAPE_IS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Pad", "Slice", "Upsample"}
_SAME_WITH_ONE_INPUT = {"Concat", "Sum", "Mean", "Max", "Min"}


def remove_no_ops(graph: onnx.GraphProto, types: dict[str, TensorType]) -> bool:
    """Remove them, renaming so that the model's inputs and outputs keep their names; return whether there were any."""
    fixed = {value.name for value in (*graph.input, *graph.output)} | {tensor.name for tensor in graph.initializer}
    in_subgraphs = {name for node in graph.node for inner in subgraphs(node) for name in outer_names(inner)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    instead: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = instead.get(name, name)
        if not _hands_on(node, types, weights, graph) or in_subgraphs.intersection((node.output[0], node.input[0])):
            kept.append(node)
        elif node.output[0] not in outputs:
            instead[node.output[0]] = node.input[0]
        elif node.input[0] not in fixed and node.input[0] not in instead.values():
            _rename(kept, node.input[0], node.output[0])
            instead[node.input[0]] = node.output[0]
            fixed.add(node.output[0])
        else:
            kept.append(node)
    if len(kept) == len(graph.node):
        return False
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _rename(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


def _hands_on(node: onnx.NodeProto, types: dict[str, TensorType], weights: dict[str, onnx.TensorProto], graph: onnx.GraphProto) -> bool:
    if node.domain not in STANDARD_DOMAINS or not node.input or not node.input[0]:
        return False
    before, after = types.get(node.input[0]), types.get(node.output[0])
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        return not _is_read(graph, node.output[1:]) and not _trains(node, weights)
    if node.op_type in _SAME_WITH_ONE_INPUT:
        return len(node.input) == 1
    if before is None or after is None:
        return False
    if node.op_type in ("Cast", "CastLike"):
        return before.elem_type == after.elem_type
    if node.op_type == "Transpose":
        permutation = attributes(node).get("perm")
        return permutation is not None and list(permutation) == sorted(permutation)
    same_shape = before.static and before.shape == after.shape
    if node.op_type == "Slice" and same_shape:
        return _steps_are_positive(node, weights)
    if node.op_type == "Pad" and same_shape:
        return _pads_nothing(node, weights)
    return node.op_type in _SAME_WHEN_SHAPE_IS and same_shape


def _is_read(graph: onnx.GraphProto, names: list[str]) -> bool:
    wanted = {name for name in names if name}
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return bool(wanted & read)


def _trains(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return False
    flag = weights.get(node.input[2])
    return flag is None or bool(numpy_helper.to_array(flag).item())


def _steps_are_positive(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if len(node.input) < 5 or not node.input[4]:
        return True
    steps = weights.get(node.input[4])
    return steps is not None and bool((numpy_helper.to_array(steps) > 0).all())


def _pads_nothing(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if len(node.input) < 2:
        return not any(attributes(node).get("pads", ()))
    pads = weights.get(node.input[1])
    return pads is not None and not numpy_helper.to_array(pads).any()
