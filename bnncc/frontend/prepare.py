"""From a file to two ONNX models: the reference, and the folded one that is converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from bnncc.errors import ModelShapeError, UnsupportedOperator
from bnncc.frontend.byte_inputs import take_bytes
from bnncc.frontend.evaluate import exact_session
from bnncc.frontend.fold import fold
from bnncc.frontend.loader import load_model
from bnncc.frontend.onnx_graph import title
from bnncc.frontend.precision import to_single_precision
from bnncc.frontend.shapes import TensorType, fix_input_shapes, infer_types
from bnncc.frontend.spec import NodeInfo
from bnncc.frontend.standardize import standardize
from bnncc.frontend.structure import check_structure
from bnncc.frontend.values import check_size, check_values
from bnncc.spec import ByteInput

__all__ = ["Prepared", "prepare"]

_T = onnx.TensorProto
_RUN_TIME_TYPES = {_T.FLOAT, _T.BOOL, _T.INT8, _T.UINT8, _T.INT16, _T.UINT16, _T.INT32, _T.UINT32, _T.INT64, _T.UINT64}
_TYPE_NAMES = {_T.DOUBLE: "float64"} | {number: name.lower() for name, number in _T.DataType.items() if number != _T.DOUBLE}
_REFERENCE_IR = 10  # every onnxruntime that is supported reads it


@dataclass(frozen=True)
class Prepared:
    """A model ready for conversion.

    Attributes
    ----------
    reference, folded
        The model in standard operators with static shapes, and the same after constant folding.
    origins
        Name of a node -> the quantizer node that it replaces.
    types
        Every tensor of ``folded``.
    """

    reference: onnx.ModelProto
    folded: onnx.ModelProto
    origins: dict[str, NodeInfo]
    types: dict[str, TensorType]


def prepare(source: str | Path | onnx.ModelProto, shapes: dict[str, tuple[int, ...]], warnings: list[str], byte_inputs: Mapping[str, ByteInput]) -> Prepared:
    """Load, check, fix shapes, standardize and fold.

    Raises
    ------
    ModelError, InputError
        See import_onnx.
    """
    model = load_model(source, warnings)
    check_structure(model.graph)
    check_values(model)
    to_single_precision(model, warnings)
    take_bytes(model, byte_inputs)
    rebatched = fix_input_shapes(model.graph, shapes, warnings)
    model.ir_version = _REFERENCE_IR
    origins = standardize(model)
    folded = fold(model)
    types = infer_types(folded)
    _write_outputs(model.graph, types)
    _write_outputs(folded.graph, types)
    _check_types(folded.graph, types)
    _check_static(folded.graph, types)
    if rebatched:
        _check_batch(model, rebatched, shapes)
    return Prepared(model, folded, origins, types)


def _write_outputs(graph: onnx.GraphProto, types: dict[str, TensorType]) -> None:
    for value in graph.output:
        known = types.get(value.name)
        if known is not None and known.shape is not None:
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, known.elem_type, known.shape))


def _check_types(graph: onnx.GraphProto, types: dict[str, TensorType]) -> None:
    """Refuse what cannot be computed at run time: float64, and types that only some operators know."""
    made_by = {name: title(node) for node in graph.node for name in node.output if name}
    for name in [value.name for value in graph.input] + list(made_by):
        if name in types and types[name].elem_type not in _RUN_TIME_TYPES:
            found = _TYPE_NAMES.get(types[name].elem_type, str(types[name].elem_type))
            raise UnsupportedOperator(
                f"The tensor '{name}', {'made by ' + made_by[name] if name in made_by else 'an input of the model'}, has element type "
                f"{found}; at run time float32, bool and the integers of 8 bits and more are supported. Export the model in float32."
            )


def _check_static(graph: onnx.GraphProto, types: dict[str, TensorType]) -> None:
    for node in graph.node:
        for name in node.output:
            known = types.get(name)
            if not name:
                continue
            if known is None or not known.static:
                if known is None or known.shape is None:
                    raise UnsupportedOperator(
                        f"{title(node)}: onnx cannot tell the shape of what this {node.op_type} makes, '{name}', at the model's opset, so it is not "
                        "supported. Replace the node by simpler operators before the export, or export with another opset."
                    )
                shown = str(["?" if d is None else d for d in known.shape])
                raise ModelShapeError(
                    f"The shape of the tensor '{name}', which {title(node)} makes, is {shown} although all inputs "
                    "have fixed shapes: it depends on the data. Only static shapes are supported: export the model without that node."
                )
            check_size(f"The tensor '{name}' made by {title(node)}", known.shape)


def _check_batch(model: onnx.ModelProto, names: list[str], shapes: dict[str, tuple[int, ...]]) -> None:
    """Run the model once on zeros: a batch size baked into a Reshape shows there at the latest."""
    batch = shapes[names[0]][0]
    advice = (
        f"The model was exported for one batch size, and --shape asks for {batch}. Use the exported batch size, or export with a "
        "dynamic one."
    )
    feeds = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        feeds[value.name] = np.zeros([d.dim_value for d in tensor.shape.dim], onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    try:
        results = exact_session(model).run(None, feeds)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelShapeError(f"{advice} onnxruntime says: {' '.join(str(error).split())}") from error
    for value, result in zip(model.graph.output, results):
        if result.ndim == 0 or result.shape[0] != batch:
            raise ModelShapeError(f"{advice} With it the output '{value.name}' has shape {list(result.shape)}.")
