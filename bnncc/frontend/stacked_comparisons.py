"""Sums of comparisons with a stack of thresholds become sums of single comparisons.

``(x.unsqueeze(-1) > thresholds).float().sum(-1)``, and TorchScript's ``bucketize``, count the thresholds that a number passes along an axis of their own. The
counts are small integers, exact in any order, so that::

    Unsqueeze(x) -> Greater(thresholds) -> Cast -> ReduceSum      ->      Cast(Greater(x, t0)) + Cast(Greater(x, t1)) + ...

which is a function of one number, element by element, like every other spelling of a k-bit activation.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, all_names, attributes, constant_arrays, fresh_name
from bnncc.frontend.shapes import TensorType

__all__ = ["unstack_comparisons"]

_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_MOST = 255
"""Thresholds of eight bits."""


def unstack_comparisons(graph: onnx.GraphProto, types: dict[str, TensorType]) -> bool:
    """Rewrite them in place, under the sums' own names; return whether there were any. What nothing reads any more stays, to be pruned."""
    made_by = {name: node for node in graph.node for name in node.output}
    constants = constant_arrays(graph)
    taken, nodes, found = all_names(graph), [], False
    for node in graph.node:
        match = _match(node, made_by, constants, types)
        if match is None:
            nodes.append(node)
            continue
        found = True
        nodes.extend(_single_comparisons(graph, node, *match, taken))
    if found:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    return found


def _match(node, made_by, constants, types):
    """Return the comparison, what it compares, the thresholds one by one, the side they stand on, the element type of the sum and the axis if it stays."""
    if node.op_type != "ReduceSum" or node.domain not in STANDARD_DOMAINS:
        return None
    cast = made_by.get(node.input[0])
    test = made_by.get(cast.input[0]) if cast is not None and cast.op_type == "Cast" else None
    if test is None or test.op_type not in _COMPARISONS or test.output[0] not in types or not types[test.output[0]].static:
        return None
    rank, given = len(types[test.output[0]].shape), attributes(node)
    axes = constants.get(node.input[1]) if len(node.input) > 1 and node.input[1] else np.asarray(given.get("axes", ()))
    side = next((i for i in (0, 1) if test.input[i] in constants), None)
    if axes is None or axes.size != 1 or side is None:
        return None
    axis = int(axes.reshape(())) % rank
    real = _without_axis(test.input[1 - side], axis, rank, made_by, constants, types)
    thresholds = constants[test.input[side]]
    own = axis - (rank - thresholds.ndim)  # the axis among the thresholds' own
    if real is None or own < 0 or not 1 < thresholds.shape[own] <= _MOST:
        return None
    return (
        test,
        real,
        [np.take(thresholds, i, own) for i in range(thresholds.shape[own])],
        side,
        attributes(cast)["to"],
        axis if given.get("keepdims", 1) else None,
    )


def _without_axis(name, axis, rank, made_by, constants, types):
    """Return the tensor before the axis was put in, None where it has one of its own there."""
    known, node = types.get(name), made_by.get(name)
    if known is None or not known.static:
        return None
    if len(known.shape) == rank - 1 and axis == 0:
        return name  # broadcast
    if len(known.shape) != rank or node is None or node.op_type != "Unsqueeze":
        return None
    axes = constants.get(node.input[1]) if len(node.input) > 1 else np.asarray(attributes(node).get("axes", ()))
    return node.input[0] if axes is not None and axes.size == 1 and int(axes.reshape(())) % rank == axis else None


def _single_comparisons(graph, node, test, real, thresholds, side, element_type, kept_axis, taken):
    nodes, total = [], None

    def emit(op_type, inputs, output=None, **given):
        output = output or fresh_name(f"{node.output[0]}_{op_type.lower()}", taken)
        nodes.append(onnx.helper.make_node(op_type, inputs, [output], fresh_name(f"{node.name}/{op_type}", taken), **given))
        return output

    def constant(array, name):
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), fresh_name(f"{node.output[0]}_{name}", taken)))
        return graph.initializer[-1].name

    for i, threshold in enumerate(thresholds):
        operands = [real, constant(threshold, "threshold")]
        one = emit("Cast", [emit(test.op_type, operands[::-1] if side == 0 else operands)], to=element_type)
        last = i == len(thresholds) - 1 and kept_axis is None
        total = one if total is None else emit("Add", [total, one], node.output[0] if last else None)
    if kept_axis is not None:
        shape = constant(np.asarray([kept_axis], np.int64), "axis")
        emit("Unsqueeze", [total, shape], node.output[0])
    return nodes
