"""What the frontend hands on: the Relax module, its interface, and where each Relax variable came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
import tvm

from bnncc.spec import NodeInfo, TensorSpec

__all__ = ["TensorSpec", "NodeInfo", "ImportedModel", "info_of"]


def info_of(node: onnx.NodeProto) -> NodeInfo:
    """Return what a report says of the node."""
    return NodeInfo(node.name, node.op_type, node.domain, tuple(node.input), node.output[0])


@dataclass
class ImportedModel:
    """A model as the passes take it, beside the ONNX model that its results are compared with.

    Attributes
    ----------
    mod
        One Relax function ``main``: one dataflow block, static shapes, A-normal form, NCHW. Its parameters are the
        model's inputs in order, weights are constants; it returns the output, or a tuple of them.
    inputs, outputs
        The interface, by ONNX names.
    tensors
        Relax variable name to the ONNX tensor whose value it holds exactly.
    nodes
        Relax variable name to the ONNX node that it was made from.
    reference
        The model in standard operators with static shapes, not folded; onnxruntime runs it.
    folded
        The model after constant folding: what was converted to Relax.
    warnings
        What the reader of a report should know about this import.
    """

    mod: tvm.IRModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tensors: dict[str, str]
    nodes: dict[str, NodeInfo]
    reference: onnx.ModelProto
    folded: onnx.ModelProto
    warnings: list[str] = field(default_factory=list)
