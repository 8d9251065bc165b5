"""Rewriting quantizer domains to standard ONNX operators, which onnxruntime runs and the importer knows."""

from __future__ import annotations

import numpy as np
import onnx

from bnncc.errors import ModelFormatError, UnsupportedOperator
from bnncc.frontend import rewrite_finn, rewrite_quant  # noqa: F401  (they register their rewrites)
from bnncc.frontend.evaluate import constant_closure, evaluate
from bnncc.frontend.onnx_graph import STANDARD_DOMAINS, all_graphs, all_names, constant_arrays, node_reads, opset, subgraphs, title
from bnncc.frontend.rewriter import REWRITES, Rewriter
from bnncc.frontend.shapes import TensorType, infer_types
from bnncc.frontend.spec import NodeInfo, info_of

__all__ = ["standardize"]

_QUANTIZER_DOMAINS = ("onnx.brevitas", "qonnx.", "finn.", "org.openvinotoolkit")
# What stands in for an operator while shapes are inferred; Identity where not listed.
_SHAPE_LIKE = {"XnorPopcountMatMul": "MatMul", "QuantAvgPool2d": "AveragePool"}


def standardize(model: onnx.ModelProto) -> dict[str, NodeInfo]:
    """Replace every node of a quantizer domain, in place; tensor names stay.

    Returns
    -------
    dict
        Name of a node written here -> the node it replaces (or is a part of).

    Raises
    ------
    UnsupportedOperator
        A domain or operator that is not known, or a form of a known one that is not supported.
    ModelFormatError
        A node lacks inputs or attributes that its operator needs, or has others.
    """
    graph = model.graph
    custom = [_is_quantizer(node) for node in graph.node]
    origins: dict[str, NodeInfo] = {}
    _check_operators(model)
    _check_nodes(model, custom)
    if any(custom):
        types, constant = _stand_in_types(model, custom), _Constants(model)
        taken, nodes = all_names(graph), []
        for node, rewrite in zip(graph.node, custom):
            if not rewrite:
                nodes.append(node)
                continue
            rewriter = Rewriter(node, opset(model), types, constant, taken)
            REWRITES[node.op_type](rewriter)
            nodes.extend(rewriter.nodes)
            origins.update(dict.fromkeys((new.name for new in rewriter.nodes), info_of(node)))
            graph.initializer.extend(rewriter.weights)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(nodes)
    _drop_unread_weights(graph)
    standard = [o for o in model.opset_import if o.domain in STANDARD_DOMAINS]
    version = standard[0].version
    del model.opset_import[:]
    model.opset_import.add(domain="", version=version)
    return origins


def _check_nodes(model: onnx.ModelProto, custom: list[bool]) -> None:
    """Check each standard node's inputs and attributes against its operator's definition."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = model.ir_version, {"": opset(model)}
    for node, is_quantizer in zip(model.graph.node, custom):
        if is_quantizer:
            continue
        try:
            if next(subgraphs(node), None) is None:
                onnx.checker.check_node(node, context)
            else:
                onnx.checker.check_model(_alone(model, node))
        except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
            raise ModelFormatError(
                f"{title(node)} breaks the rules of its operator: {' '.join(str(error).split())}. Export the model again."
            ) from error


def _alone(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """Return a model of this one node, its inputs what it reads: onnx checks a node with subgraphs only among the names it sees."""
    describe = onnx.helper.make_tensor_value_info
    inputs = [describe(name, onnx.TensorProto.FLOAT, []) for name in dict.fromkeys(node_reads(node))]
    outputs = [describe(name, onnx.TensorProto.FLOAT, []) for name in node.output if name]
    return onnx.helper.make_model(
        onnx.helper.make_graph([node], "node", inputs, outputs), opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _drop_unread_weights(graph: onnx.GraphProto) -> None:
    """Remove weights that no node reads any more (bit widths, zero points): onnxruntime warns of each."""
    read = {name for node in graph.node for name in node_reads(node)} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(kept) < len(graph.initializer):
        copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(copies)


def _is_quantizer(node: onnx.NodeProto) -> bool:
    if node.op_type not in REWRITES:
        return False
    return node.domain.startswith(_QUANTIZER_DOMAINS) or (node.domain in STANDARD_DOMAINS and not onnx.defs.has(node.op_type))


def _check_operators(model: onnx.ModelProto) -> None:
    version = opset(model)
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if graph is model.graph and _is_quantizer(node):
                continue
            if node.domain not in STANDARD_DOMAINS:
                known = sorted(REWRITES) if node.domain.startswith(_QUANTIZER_DOMAINS) else []
                of_it = (
                    f"of that domain {', '.join(known)}"
                    if known
                    else f"and the quantizers {', '.join(sorted(REWRITES))} of QONNX, Brevitas and FINN"
                )
                raise UnsupportedOperator(
                    f"{title(node)} is of the domain '{node.domain}'. Supported are the standard ONNX operators {of_it}. Export "
                    "the model without that operator, or replace it by standard ones."
                )
            if node.op_type.endswith("PartitionedCall"):
                raise UnsupportedOperator(
                    f"{title(node)} calls a TensorFlow function that tf2onnx left in the graph: Keras makes one of a convolution with groups (groups=), and "
                    "of layers compiled with jit_compile. Replace the layer before the export: a split, one convolution a group, and a concatenation, "
                    "which are supported."
                )
            if not onnx.defs.has(node.op_type):
                raise UnsupportedOperator(
                    f"{title(node)}: ONNX has no operator '{node.op_type}', and it is none of the quantizers "
                    f"{', '.join(sorted(REWRITES))}. If it belongs to a library of custom operators, replace it by standard ones."
                )
            if not _in_opset(node.op_type, version):
                raise UnsupportedOperator(
                    f"{title(node)}: opset {version}, which the model imports, has no operator '{node.op_type}'; another version has. "
                    "Export the model again, with an opset up to 21 that fits its operators."
                )


def _in_opset(op_type: str, version: int) -> bool:
    try:
        return not onnx.defs.get_schema(op_type, version, "").deprecated
    except onnx.defs.SchemaError:
        return False


def _stand_in_types(model: onnx.ModelProto, custom: list[bool]) -> dict[str, TensorType]:
    """Infer types with a standard operator of the same shape rule in place of each quantizer."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node, replace in zip(copy.graph.node, custom):
        if not replace:
            continue
        stand_in = _SHAPE_LIKE.get(node.op_type, "Identity")
        attributes = {a.name: a.i for a in node.attribute}
        size = {"kernel_shape": [attributes.get("kernel", 1)] * 2, "strides": [attributes.get("stride", 1)] * 2}
        inputs = list(node.input[:2] if stand_in == "MatMul" else node.input[:1])
        node.CopyFrom(onnx.helper.make_node(stand_in, inputs, list(node.output), **(size if stand_in == "AveragePool" else {})))
    return infer_types(copy)


class _Constants:
    """Values of tensors that do not depend on the model's inputs, computed when asked for."""

    def __init__(self, model: onnx.ModelProto):
        self._model, self._known = model, constant_arrays(model.graph)
        self._computable = constant_closure(model.graph)

    def __call__(self, name: str) -> np.ndarray | None:
        if name not in self._known and name in self._computable:
            self._known.update(evaluate(self._model, [name]))
        return self._known.get(name)
