"""Reading and making parts of ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

STANDARD_DOMAINS = ("", "ai.onnx")


def attributes(node: onnx.NodeProto) -> dict:
    """Return the node's attributes as Python values, strings decoded."""
    values = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        values[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return values


def title(node: onnx.NodeProto) -> str:
    """Name the node for a message: ``Conv node 'conv1' (output 'y')``."""
    operator = f"{node.domain}.{node.op_type}" if node.domain not in STANDARD_DOMAINS else node.op_type
    output = next((name for name in node.output if name), "")
    return f"{operator} node '{node.name}' (output '{output}')" if node.name else f"{operator} node with output '{output}'"


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that the node holds as attributes (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def outer_names(graph: onnx.GraphProto) -> list[str]:
    """Return the names that a subgraph reads from the graphs around it, in order of first use."""
    known = {i.name for i in graph.initializer} | {i.name for i in graph.input}
    outer: dict[str, None] = {}
    for node in graph.node:
        outer.update((name, None) for name in node_reads(node) if name not in known)
        known.update(node.output)
    outer.update((o.name, None) for o in graph.output if o.name not in known)
    return list(outer)


def node_reads(node: onnx.NodeProto) -> list[str]:
    """Return every tensor name the node reads, those its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        names.extend(outer_names(graph))
    return names


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph and every graph nested in it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yield (name to show, tensor) for every initializer and every tensor attribute, nested graphs included."""
    for inner in all_graphs(graph):
        for tensor in inner.initializer:
            yield tensor.name, tensor
        for node in inner.node:
            for attribute in node.attribute:
                shown = (
                    node.output[0] if node.output and node.op_type in ("Constant", "ConstantOfShape") else f"{node.name}.{attribute.name}"
                )
                if attribute.HasField("t"):
                    yield shown, attribute.t


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operator set."""
    return next(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)


def constant_arrays(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Return the initializers and Constant nodes' tensors as arrays."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS:
            arrays[node.output[0]] = constant_value(node)
    return arrays


def constant_value(node: onnx.NodeProto) -> np.ndarray:
    """Return what a Constant node yields."""
    for name, value in attributes(node).items():
        if name == "value":
            return numpy_helper.to_array(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
    return np.asarray(value, np.int64)  # value_int or value_ints: strings and sparse tensors are refused before


def fresh_name(base: str, taken: set[str]) -> str:
    """Return ``base`` or ``base_1``, ``base_2`` ..., whichever is not taken, and take it."""
    name, count = base, 0
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Return every tensor name the graph and its nested graphs use."""
    names: set[str] = set()
    for inner in all_graphs(graph):
        names.update(v.name for group in (inner.input, inner.output, inner.initializer) for v in group)
        for node in inner.node:
            names.update(node.input)
            names.update(node.output)
    return names
