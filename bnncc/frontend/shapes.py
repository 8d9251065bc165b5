"""Fixing every dimension: the shapes asked for, batch 1 by default, and what follows for each tensor."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from bnncc.errors import ModelFormatError, ModelShapeError
from bnncc.frontend.values import check_size

__all__ = ["TensorType", "fix_input_shapes", "infer_types"]

_LARGEST_SHAPE_CONSTANT = 1024  # elements; larger constants never say a shape


@dataclass(frozen=True)
class TensorType:
    """Element type (onnx.TensorProto's number) and dimensions, None for those unknown; ``shape`` None without a rank."""

    elem_type: int
    shape: tuple[int | None, ...] | None

    @property
    def static(self) -> bool:
        """Whether every dimension is known."""
        return self.shape is not None and None not in self.shape


def fix_input_shapes(graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]], warnings: list[str]) -> list[str]:
    """Write static shapes into the graph's inputs and forget all other shapes, to be inferred again.

    Parameters
    ----------
    graph
        Changed in place.
    shapes
        Input name to shape.
    warnings
        Receives what was decided here.

    Returns
    -------
    list of str
        Inputs whose batch size the model fixed and ``shapes`` changed: whether the graph allows that must be checked.

    Raises
    ------
    ModelShapeError
        No such input, another rank or another size than the model's, a dimension below 1, or one left unknown.
    """
    names = [value.name for value in graph.input]
    for name in shapes:
        if name not in names:
            raise ModelShapeError(
                f"--shape names the input '{name}', but the model's inputs are {', '.join(map(repr, names))}. Use one of those names."
            )
    rebatched = []
    for value in graph.input:
        declared = _declared(value)
        shape, changed = _resolve(value.name, declared, shapes.get(value.name), warnings)
        check_size(f"The input '{value.name}'", shape)
        _write(value, shape)
        if changed:
            rebatched.append(value.name)
    del graph.value_info[:]
    for value in graph.output:
        if value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.ClearField("shape")
    return rebatched


def _declared(value: onnx.ValueInfoProto) -> list[int | str] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]


def _is_free(dim: int | str) -> bool:
    # Some exporters write an unknown dimension as -1.
    return isinstance(dim, str) or dim == -1


def _shown(declared: list[int | str]) -> str:
    return "[" + ", ".join("?" if d in ("", -1) else str(d) for d in declared) + "]"


def _resolve(name: str, declared: list | None, asked: tuple[int, ...] | None, warnings: list[str]) -> tuple[tuple[int, ...], bool]:
    if asked is not None:
        asked = tuple(int(d) for d in asked)
        check_size(f"The shape asked for input '{name}'", asked)
    if declared is None:
        if asked is None:
            raise ModelShapeError(
                f"The model does not say the shape of its input '{name}', not even its rank. Give it with --shape {name}=D0,D1,..."
            )
        return asked, False
    if asked is None:
        fixed = [1 if i == 0 and _is_free(d) else d for i, d in enumerate(declared)]
        if any(_is_free(d) for d in fixed):
            example = ",".join("D" + str(i) if _is_free(d) else str(d) for i, d in enumerate(fixed))
            raise ModelShapeError(
                f"The input '{name}' has shape {_shown(declared)}, with dimensions that the model leaves open. Fix them with "
                f"--shape {name}={example}, a number in place of each D."
            )
        if declared and _is_free(declared[0]):
            warnings.append(
                f"The input '{name}' has shape {_shown(declared)}; its batch size is set to 1. Choose another with --shape {name}=..."
            )
        return tuple(fixed), False
    if len(asked) != len(declared):
        raise ModelShapeError(
            f"--shape gives the input '{name}' {len(asked)} dimensions, {list(asked)}, but the model has {len(declared)}: "
            f"{_shown(declared)}. Give {len(declared)} dimensions."
        )
    for i, (want, have) in enumerate(zip(asked, declared)):
        if i and not _is_free(have) and want != have:
            raise ModelShapeError(
                f"--shape gives the input '{name}' the shape {list(asked)}, but the model fixes dimension {i} to {have}: "
                f"{_shown(declared)}. Only open dimensions, and the batch size, can be chosen."
            )
    changed = bool(declared) and not _is_free(declared[0]) and asked[0] != declared[0]
    return asked, changed


def _write(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    dims = value.type.tensor_type.shape
    del dims.dim[:]
    value.type.tensor_type.shape.SetInParent()
    for size in shape:
        dims.dim.add().dim_value = size


def infer_types(model: onnx.ModelProto) -> dict[str, TensorType]:
    """Infer the type of every tensor of the main graph that onnx can tell.

    Raises
    ------
    ModelShapeError
        Shapes contradict each other.
    ModelFormatError
        Element types do.
    """
    types = {t.name: TensorType(t.data_type, tuple(t.dims)) for t in model.graph.initializer}
    try:
        inferred = onnx.shape_inference.infer_shapes(_skeleton(model), strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())
        if "TypeInferenceError" in reason:
            raise ModelFormatError(f"The element types in the model contradict each other: {reason}. Export the model again.") from error
        raise ModelShapeError(
            f"The shapes in the model contradict each other: {reason}. If --shape was given, try the shape the model was exported "
            "with; otherwise export the model again."
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ModelFormatError(f"Shape inference fails on the model: {' '.join(str(error).split())}. Export the model again.") from error
    graph = inferred.graph
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        if value.name in types or value.type.WhichOneof("value") != "tensor_type":
            continue
        shape = None
        if tensor.HasField("shape"):
            shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        types[value.name] = TensorType(tensor.elem_type, shape)
    return types


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with large weights replaced by inputs of the same type: inference needs no values of those."""
    graph = model.graph
    small = [t for t in graph.initializer if _elements(t) <= _LARGEST_SHAPE_CONSTANT]
    large = [
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer if _elements(t) > _LARGEST_SHAPE_CONSTANT
    ]
    inputs = {value.name for value in graph.input}
    outputs = [value for value in graph.output if value.name not in inputs]  # inference forgets the shape of an input that is an output, too
    copy = onnx.helper.make_graph(graph.node, graph.name or "graph", [*graph.input, *large], outputs, small)
    skeleton = onnx.helper.make_model(copy, opset_imports=model.opset_import)
    skeleton.ir_version = max(model.ir_version, 4)
    return skeleton


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for d in tensor.dims:
        count *= d
    return count
