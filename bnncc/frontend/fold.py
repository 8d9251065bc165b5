"""Constant folding without a size limit, and removal of what does nothing at inference."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from bnncc.errors import UnsupportedOperator
from bnncc.frontend.control_flow import inline_decided_branches
from bnncc.frontend.evaluate import constant_closure, evaluate
from bnncc.frontend.masked_writes import select_masked_writes
from bnncc.frontend.no_ops import remove_no_ops
from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, constant_value, node_reads, opset, subgraphs, title
from bnncc.frontend.shapes import TensorType, infer_types
from bnncc.frontend.stacked_comparisons import unstack_comparisons
from bnncc.frontend.values import check_finite, check_size

__all__ = ["fold"]


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which everything that does not depend on the input's values is a weight.

    Shapes of static tensors count as constants, so shape arithmetic goes as well. Inference and folding alternate
    until neither finds anything new, since a folded Reshape target makes more shapes known.

    Raises
    ------
    UnsupportedOperator
        Control flow is left whose course depends on the input.
    ModelShapeError, ModelValueError
        A folded tensor is absurdly large, or not finite.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    _constants_to_weights(folded.graph)
    origins: dict[str, str] = {}
    changed = True
    while changed:
        types = infer_types(folded)
        for name, known in types.items():
            if known.static and 0 not in known.shape:
                check_size(f"The tensor '{name}'", known.shape)
        changed = _fold_shapes(folded.graph, types)
        changed |= _name_types(folded.graph, types)
        changed |= _fold_constants(folded, origins)
        changed |= inline_decided_branches(folded.graph)
        changed |= opset(folded) >= 13 and unstack_comparisons(folded.graph, types)
        changed |= select_masked_writes(folded.graph, types)
        changed |= remove_no_ops(folded.graph, types)
        _prune(folded.graph)
    for node in folded.graph.node:
        if next(subgraphs(node), None) is not None:
            raise UnsupportedOperator(
                f"{title(node)} is control flow that depends on the model's input. Only straight graphs are supported: export the "
                "model with fixed shapes, without branches or loops that depend on data."
            )
    for tensor in folded.graph.initializer:
        if tensor.name in origins:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "f":
                check_finite(tensor.name, array, array.size == 1, f", computed by {origins[tensor.name]},")
    return folded


def _constants_to_weights(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS:
            graph.initializer.append(numpy_helper.from_array(constant_value(node), node.output[0]))
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _fold_shapes(graph: onnx.GraphProto, types: dict[str, TensorType]) -> bool:
    """Turn Shape and Size of tensors with a static shape into weights."""
    kept, found = [], False
    for node in graph.node:
        known = types.get(node.input[0]) if node.op_type in ("Shape", "Size") and node.domain in STANDARD_DOMAINS else None
        if known is None or not known.static:
            kept.append(node)
            continue
        found = True
        if node.op_type == "Size":
            value = np.asarray(np.prod(known.shape, dtype=np.int64))
        else:
            bounds = {a.name: a.i for a in node.attribute}
            value = np.asarray(known.shape[bounds.get("start") : bounds.get("end")], np.int64)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    if found:
        _replace_nodes(graph, kept)
    return found


def _name_types(graph: onnx.GraphProto, types: dict[str, TensorType]) -> bool:
    """Turn CastLike into Cast: of its second input it reads the element type alone, so that it is no reason to keep a constant from being folded."""
    found = False
    for node in graph.node:
        known = types.get(node.input[1]) if node.op_type == "CastLike" and node.domain in STANDARD_DOMAINS else None
        if known is not None:
            found = True
            node.op_type = "Cast"
            node.input[:] = node.input[:1]
            node.attribute.append(onnx.helper.make_attribute("to", known.elem_type))
    return found


def _fold_constants(model: onnx.ModelProto, origins: dict[str, str]) -> bool:
    """Compute all constant nodes in one run; only what others read becomes a weight."""
    graph = model.graph
    known = constant_closure(graph)
    weights = {tensor.name for tensor in graph.initializer}
    constant = [all(name in known for name in node.output if name) for node in graph.node]
    if not any(constant):
        return False
    wanted = {name for node, is_constant in zip(graph.node, constant) if not is_constant for name in node_reads(node)}
    wanted.update(value.name for value in graph.output)
    makers = {name: node for node, is_constant in zip(graph.node, constant) if is_constant for name in node.output if name}
    names = [name for name in makers if name in wanted and name not in weights]
    if names:
        for name, value in evaluate(model, names).items():
            origins[name] = title(makers[name])
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    _replace_nodes(graph, [node for node, is_constant in zip(graph.node, constant) if not is_constant])
    return True


def _prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that no output depends on."""
    needed, kept = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node_reads(node))
    if len(kept) < len(graph.node):
        _replace_nodes(graph, kept[::-1])
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    if len(weights) < len(graph.initializer):
        copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
        del graph.initializer[:]
        graph.initializer.extend(copies)
