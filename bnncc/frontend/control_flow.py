"""If nodes whose condition is constant: the branch taken moves into the main graph."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, all_names, fresh_name, subgraphs

__all__ = ["inline_decided_branches"]


def inline_decided_branches(graph: onnx.GraphProto) -> bool:
    """Replace each If with a constant condition by the branch it takes; return whether there was one."""
    conditions = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.BOOL}
    decided = [node.op_type == "If" and node.domain in STANDARD_DOMAINS and node.input[0] in conditions for node in graph.node]
    if not any(decided):
        return False
    taken, nodes = all_names(graph), []
    for node, inline in zip(graph.node, decided):
        if not inline:
            nodes.append(node)
            continue
        taken_branch = "then_branch" if numpy_helper.to_array(conditions[node.input[0]]).item() else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == taken_branch)
        nodes.extend(_inline(graph, branch, node, taken))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _inline(graph: onnx.GraphProto, branch: onnx.GraphProto, choice: onnx.NodeProto, taken: set[str]) -> list[onnx.NodeProto]:
    """Return the branch's nodes under names that are free in the graph; its weights go to the graph."""
    inner = onnx.GraphProto()
    inner.CopyFrom(branch)
    names, outputs = {}, list(choice.output)
    for tensor in inner.initializer:
        names[tensor.name] = fresh_name(f"{outputs[0]}_{tensor.name}", taken)
    for node in inner.node:
        names.update((name, fresh_name(f"{outputs[0]}_{name}", taken)) for name in node.output if name)
    for tensor in inner.initializer:
        tensor.name = names[tensor.name]
        graph.initializer.append(tensor)
    for node in inner.node:
        _rename(node, names)
        node.name = f"{choice.name}/{node.name or node.op_type}"
    # An Identity each, since a branch may return one tensor twice or one from outside.
    ends = [
        onnx.helper.make_node("Identity", [names.get(value.name, value.name)], [output])
        for value, output in zip(inner.output, outputs)
        if output
    ]
    return [*inner.node, *ends]


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    for field in (node.input, node.output):
        for i, name in enumerate(field):
            field[i] = names.get(name, name)
    for graph in subgraphs(node):
        local = {v.name for v in (*graph.input, *graph.initializer)} | {name for inner in graph.node for name in inner.output}
        visible = {old: new for old, new in names.items() if old not in local}
        for inner in graph.node:
            _rename(inner, visible)
        for value in graph.output:
            value.name = visible.get(value.name, value.name)
