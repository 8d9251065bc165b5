"""The graph's soundness: every name defined once and before its use, every element type one that is supported."""

from __future__ import annotations

import networkx
import onnx

from bnncc.errors import ModelFormatError, UnsupportedOperator
from bnncc.frontend.onnx_graph import fresh_name, node_reads, outer_names, subgraphs, title

__all__ = ["check_structure", "sort_nodes", "drop_weight_inputs"]

_AGAIN = "The file is damaged or its exporter is faulty: export the model again."


def check_structure(graph: onnx.GraphProto) -> None:
    """Check names and types of the whole graph, then put its nodes in topological order.

    Raises
    ------
    ModelFormatError
        A name is defined twice or not at all, the nodes form a cycle, or there is no input or output.
    UnsupportedOperator
        An input, output or weight is no dense tensor of numbers.
    """
    drop_weight_inputs(graph)
    if not graph.input:
        raise ModelFormatError("The model has no input besides its weights: there is nothing to compute from. " + _AGAIN)
    if not graph.output:
        raise ModelFormatError("The model has no output. " + _AGAIN)
    _check_types(graph)
    defined = _definitions(graph)
    _check_uses(graph, set(defined))
    sort_nodes(graph)
    _name_nodes(graph)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Name the nodes that have no name, or one that another has: onnxruntime refuses those, and reports need them."""
    taken: set[str] = set()
    for node in graph.node:
        node.name = fresh_name(node.name or f"{node.op_type}_{next((name for name in node.output if name), '')}", taken)


def drop_weight_inputs(graph: onnx.GraphProto) -> None:
    """Take weights off the list of inputs, where IR version 3 repeats them."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Order the nodes so that each comes after what it reads, otherwise as they were.

    Raises
    ------
    ModelFormatError
        The nodes form a cycle.
    """
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order = networkx.DiGraph()
    order.add_nodes_from(range(len(graph.node)))
    for index, node in enumerate(graph.node):
        order.add_edges_from((made_by[name], index) for name in node_reads(node) if name in made_by)
    if all(a < b for a, b in order.edges):
        return
    try:
        ordered = list(networkx.lexicographical_topological_sort(order))
    except networkx.NetworkXUnfeasible as error:
        cycle = [graph.node[a] for a, _ in networkx.find_cycle(order)]
        shown = ", ".join(title(node) for node in cycle[:4]) + (", ..." if len(cycle) > 4 else "")
        raise ModelFormatError(f"The graph has a cycle through {shown}. ONNX graphs must be free of cycles. {_AGAIN}") from error
    nodes = [onnx.NodeProto.FromString(graph.node[index].SerializeToString()) for index in ordered]
    del graph.node[:]
    graph.node.extend(nodes)


def _definitions(graph: onnx.GraphProto) -> dict[str, str]:
    """Return name -> what defines it, and refuse a second definition."""
    defined: dict[str, str] = {}

    def define(name: str, what: str) -> None:
        if name in defined:
            raise ModelFormatError(f"The tensor name '{name}' is defined twice: by {defined[name]} and by {what}. {_AGAIN}")
        defined[name] = what

    for value in graph.input:
        if not value.name:
            raise ModelFormatError(f"An input of the model has no name. {_AGAIN}")
        define(value.name, "an input of the model")
    for tensor in graph.initializer:
        define(tensor.name, "a weight")
    for node in graph.node:
        for name in node.output:
            if name:
                define(name, title(node))
    return defined


def _check_uses(graph: onnx.GraphProto, defined: set[str]) -> None:
    for node in graph.node:
        for name in node_reads(node):
            if name not in defined:
                raise ModelFormatError(f"{title(node)} reads the tensor '{name}', which nothing defines. {_AGAIN}")
        for inner in subgraphs(node):
            _check_inner(inner)
    for value in graph.output:
        if value.name not in defined:
            raise ModelFormatError(f"The output '{value.name}' of the model is computed by no node. {_AGAIN}")
    if len({value.name for value in graph.output}) < len(graph.output):
        raise ModelFormatError(f"An output of the model is listed twice: {', '.join(value.name for value in graph.output)}. {_AGAIN}")


def _check_inner(graph: onnx.GraphProto) -> None:
    inner = _definitions(graph)
    _check_uses(graph, set(inner) | set(outer_names(graph)))


def _check_types(graph: onnx.GraphProto) -> None:
    if graph.sparse_initializer:
        raise UnsupportedOperator(
            f"The weight '{graph.sparse_initializer[0].values.name}' is stored as a sparse tensor; only dense tensors are "
            "supported. Export the model with dense weights."
        )
    values = [("input", value) for value in graph.input] + [("output", value) for value in graph.output]
    for role, value in values:
        kind = value.type.WhichOneof("value")
        if kind is None and role == "output":
            continue
        if kind is None:
            raise ModelFormatError(f"The {role} '{value.name}' has no type. {_AGAIN}")
        if kind != "tensor_type":
            raise UnsupportedOperator(
                f"The {role} '{value.name}' is a {kind.removesuffix('_type').replace('_', ' ')}, not a dense tensor. Only dense "
                "tensors of numbers are supported: change the model so that it takes and gives such."
            )
        _check_element_type(f"{role} '{value.name}'", value.type.tensor_type.elem_type)
    for tensor in graph.initializer:
        _check_element_type(f"weight '{tensor.name}'", tensor.data_type)
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) != 1:
            raise ModelFormatError(f"{title(node)} holds {len(node.attribute)} values; a constant has exactly one. {_AGAIN}")
        if any(a.name in ("sparse_value", "value_string", "value_strings") for a in node.attribute):
            raise UnsupportedOperator(
                f"{title(node)} makes a sparse tensor or strings; only dense tensors of numbers are supported. Export the model without it."
            )


def _check_element_type(what: str, element_type: int) -> None:
    T = onnx.TensorProto
    if element_type == T.UNDEFINED:
        raise ModelFormatError(f"The {what} has no element type. {_AGAIN}")
    supported = {
        T.FLOAT,
        T.FLOAT16,
        T.DOUBLE,
        T.BOOL,
        T.INT4,
        T.UINT4,
        T.INT8,
        T.UINT8,
        T.INT16,
        T.UINT16,
        T.INT32,
        T.UINT32,
        T.INT64,
        T.UINT64,
    }
    if element_type not in supported:
        names = {number: name for name, number in T.DataType.items()}
        raise UnsupportedOperator(
            f"The {what} has element type {names.get(element_type, element_type)}; float32, float16, float64, bool and the "
            "integer types are supported. Export the model in float32."
        )
