"""Writes where a mask is true become selections.

PyTorch's dynamo exporter spells ``x[mask] = value`` as a scatter to the places of all true elements, how many there are depending on the data::

    NonZero(mask) -> Transpose ─┐
    Expand(value, how many)   ──┴─> ScatterND(x)      ->      Where(mask, value, x)

and ``x[mask] = y[mask]`` with a GatherND at those places in place of the Expand. A selection has the shape of x, whatever the data are.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import numpy_helper

from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, all_names, attributes, constant_arrays, fresh_name
from bnncc.frontend.shapes import TensorType

__all__ = ["select_masked_writes"]

_MOVES = {"Reshape", "Expand", "Squeeze", "Unsqueeze", "Identity", "Flatten"}
"""Operators after which a single number is still the same number everywhere."""


def select_masked_writes(graph: onnx.GraphProto, types: dict[str, TensorType]) -> bool:
    """Rewrite them in place, under the scatters' own names; return whether there were any. What nothing reads any more stays, to be pruned."""
    if not any(node.op_type == "NonZero" for node in graph.node):
        return False
    made_by = {name: node for node in graph.node for name in node.output if node.domain in STANDARD_DOMAINS}
    sizes = {name: array.size for name, array in constant_arrays(graph).items()}
    taken, found = all_names(graph), False
    for node in graph.node:
        match = _match(node, made_by, sizes, types)
        if match is None:
            continue
        found = True
        mask, value = match
        if value in sizes:
            value = _scalar(graph, value, taken)
        node.op_type = "Where"
        del node.attribute[:]
        node.input[:] = [mask, value, node.input[0]]
    return found


def _match(node, made_by: Mapping[str, onnx.NodeProto], sizes: Mapping[str, int], types: Mapping[str, TensorType]) -> tuple[str, str] | None:
    """Return the mask, and the number or the tensor that is written where it is true."""
    if node.op_type != "ScatterND" or node.domain not in STANDARD_DOMAINS or attributes(node).get("reduction", "none") != "none":
        return None
    mask = _mask(node.input[1], made_by)
    data, shape = types.get(node.input[0]), types.get(mask or "")
    if mask is None or data is None or shape is None or not data.static or data.shape != shape.shape or shape.elem_type != onnx.TensorProto.BOOL:
        return None
    value = node.input[2]
    while value not in sizes and value in made_by and made_by[value].op_type in _MOVES:
        value = made_by[value].input[0]
    if sizes.get(value) == 1:
        return mask, value
    gather = made_by.get(value)
    if gather is None or gather.op_type != "GatherND" or attributes(gather).get("batch_dims", 0) or _mask(gather.input[1], made_by) != mask:
        return None
    other = types.get(gather.input[0])
    return (mask, gather.input[0]) if other is not None and other.shape == data.shape else None


def _mask(indices: str, made_by: Mapping[str, onnx.NodeProto]) -> str | None:
    """Return the tensor whose true elements' places these are, one a row."""
    transpose = made_by.get(indices)
    if transpose is None or transpose.op_type != "Transpose" or list(attributes(transpose).get("perm", (1, 0))) != [1, 0]:
        return None
    places = made_by.get(transpose.input[0])
    return places.input[0] if places is not None and places.op_type == "NonZero" else None


def _scalar(graph: onnx.GraphProto, name: str, taken: set[str]) -> str:
    """Return the name of a weight with the one number, without axes: those of the scattered list are none of the tensor's."""
    array = constant_arrays(graph)[name].reshape(())
    graph.initializer.append(numpy_helper.from_array(array, fresh_name(f"{name}_number", taken)))
    return graph.initializer[-1].name
