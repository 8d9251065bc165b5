"""ONNX to Relax, one node after the other, into a single dataflow block."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import tvm
from onnx import numpy_helper
from tvm import relax
from tvm.ir import GenericConst, Tuple

from bnncc.errors import ModelShapeError, UnsupportedOperator
from bnncc.frontend import (  # noqa: F401  (they register their converters)
    convert_elementwise,
    convert_gather,
    convert_matmul,
    convert_movement,
    convert_normalize,
    convert_quantize,
    convert_reduce,
    convert_resize,
    convert_scatter,
    convert_spatial,
)
from bnncc.frontend.conversion import CONVERTERS, Conversion, constant_of
from bnncc.frontend.names import VariableNames
from bnncc.frontend.onnx_graph import opset, title
from bnncc.frontend.prepare import Prepared, prepare
from bnncc.frontend.spec import ImportedModel, NodeInfo, TensorSpec, info_of
from bnncc.frontend.stock import convert_by_stock_importer
from bnncc.spec import ByteInput

__all__ = ["import_onnx"]


def import_onnx(
    source: str | Path | onnx.ModelProto, shapes: dict[str, tuple[int, ...]] | None = None, byte_inputs: Mapping[str, ByteInput] | None = None
) -> ImportedModel:
    """Import an ONNX model.

    Parameters
    ----------
    source
        An .onnx file, or a model in memory.
    shapes
        Input name to shape, for inputs with open dimensions or another batch size.
    byte_inputs
        Input name to what its bytes stand for, for float32 inputs that are to take uint8; the name ``""`` is the model's only input.

    Returns
    -------
    ImportedModel
        The Relax module, the maps back to ONNX, and the reference model.

    Raises
    ------
    ModelError
        One of its kinds: the file is unsound, a shape is open or absurd, a weight not finite, an operator not supported.
    InputError
        `byte_inputs` names what is no input of float32.
    """
    warnings: list[str] = []
    prepared = prepare(source, shapes or {}, warnings, byte_inputs or {})
    reference, folded = prepared.reference, prepared.folded
    importer = _Importer(prepared)
    mod = importer.run()
    # What comes from the branch of an If has a name in the folded model only.
    computed = {name for node in reference.graph.node for name in node.output} | {value.name for value in reference.graph.input}
    tensors = {var: name for var, name in importer.tensors.items() if name in computed}
    return ImportedModel(mod, importer.inputs, importer.outputs, tensors, importer.nodes, reference, folded, warnings)


class _Importer:
    def __init__(self, prepared: Prepared):
        self._graph, self._opset = prepared.folded.graph, opset(prepared.folded)
        self._origins, self._types = prepared.origins, prepared.types
        self._builder = relax.BlockBuilder()
        self._names = VariableNames()
        self._bindings: list[relax.VarBinding] = []
        self._values: dict[str, relax.Expr] = {}
        self.tensors: dict[str, str] = {}
        self.nodes: dict[str, NodeInfo] = {}
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()

    def run(self) -> tvm.IRModule:
        parameters = [self._parameter(value) for value in self._graph.input]
        self._output_names = {value.name for value in self._graph.output}
        for tensor in self._graph.initializer:
            self._values[tensor.name] = constant_of(numpy_helper.to_array(tensor))
        for node in self._graph.node:
            self._convert(node)
        results = [self._result(value.name) for value in self._graph.output]
        self.inputs = tuple(_spec(value.name, var) for value, var in zip(self._graph.input, parameters))
        self.outputs = tuple(_spec(value.name, var) for value, var in zip(self._graph.output, results))
        result = results[0] if len(results) == 1 else self._builder.normalize(Tuple(results))
        body = relax.SeqExpr([relax.DataflowBlock(self._bindings)], result)
        function = relax.Function(parameters, body, result.ty, is_pure=True).with_attr("global_symbol", "main")
        # Normalize gives the body its type; the bindings are in normal form already.
        mod = relax.transform.Normalize()(tvm.IRModule({"main": function}))
        relax.analysis.well_formed(mod)
        return mod

    def _parameter(self, value: onnx.ValueInfoProto) -> relax.Var:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        var = relax.Var(self._names.name(value.name), relax.TensorType([d.dim_value for d in tensor.shape.dim], dtype))
        self.tensors[var.name] = value.name
        self._values[value.name] = var
        return var

    def _convert(self, node: onnx.NodeProto) -> None:
        info = self._origins.get(node.name) or info_of(node)
        inputs = [self._values[name] if name else None for name in node.input]

        def bind(expr: relax.Expr) -> relax.Var:
            expr = self._builder.normalize(expr)
            operator = expr.op.name.rpartition(".")[2] if isinstance(expr, relax.Call) else "item"
            return self._bind(expr, self._names.name(f"{node.output[0]}_{operator}"), info, relax.DataflowVar)

        try:
            converter = CONVERTERS.get(node.op_type)
            if converter is not None:
                results = converter(Conversion(node, inputs, self._opset, bind, self._builder.normalize))
            else:
                results = convert_by_stock_importer(node, inputs, self._opset, bind, sorted(CONVERTERS))
            if not isinstance(results, list):
                results = [results]
            wanted = len([name for name in node.output if name])
            if any(name for name in node.output[len(results) :]):
                raise UnsupportedOperator(
                    f"{title(node)}: {wanted} of its outputs are used, {len(results)} are supported. Export the model without the others."
                )
            for name, expr in zip(node.output, results):
                if name:
                    expr = self._builder.normalize(expr)
                    self._check_type(node, name, expr)
                    self._name_result(name, expr, info)
        except (RuntimeError, ValueError, TypeError) as error:  # what TVM raises for types that do not fit
            shapes = ", ".join(f"'{name}' {_type_shown(value)}" for name, value in zip(node.input, inputs) if value is not None)
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise ModelShapeError(
                f"{title(node)} cannot be converted with the inputs {shapes}: {reason}. Check the shapes the model was exported with "
                "and those given with --shape."
            ) from error

    def _check_type(self, node: onnx.NodeProto, name: str, expr: relax.Expr) -> None:
        """Compare what a converter made with what ONNX says of the tensor: TVM's own converters do not always agree."""
        expected = self._types[name]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(expected.elem_type).name
        if str(expr.ty.dtype) != dtype or tuple(int(d) for d in expr.ty.shape.values) != expected.shape:
            raise UnsupportedOperator(
                f"{title(node)} should make '{name}' as {dtype}{list(expected.shape)}, but converts to {_type_shown(expr)}: this form of "
                f"{node.op_type} is not supported. Replace the node by simpler operators before the export."
            )

    def _name_result(self, name: str, expr: relax.Expr, info: NodeInfo) -> None:
        if isinstance(expr, relax.Var | GenericConst) and name not in self._output_names:
            self._values[name] = expr
            return
        if isinstance(expr, relax.Var | GenericConst):
            expr = relax.op.reshape(expr, [int(d) for d in expr.ty.shape.values])
            expr = self._builder.normalize(expr)
        kind = relax.Var if name in self._output_names else relax.DataflowVar
        var = self._bind(expr, self._names.name(name), info, kind)
        self.tensors[var.name] = name
        self._values[name] = var

    def _bind(self, expr: relax.Expr, name: str, info: NodeInfo, kind: type) -> relax.Var:
        var = kind(name, expr.ty)
        self._bindings.append(relax.VarBinding(var, expr))
        self.nodes[name] = info
        return var

    def _result(self, name: str) -> relax.Var:
        value = self._values[name]
        if (
            isinstance(value, relax.Var)
            and not isinstance(value, relax.DataflowVar)
            and self.tensors.get(value.name) == name
            and value.name in self.nodes
        ):
            return value
        info = NodeInfo(name, "Identity", "", (name,), name)
        expr = self._builder.normalize(relax.op.reshape(value, [int(d) for d in value.ty.shape.values]))
        var = self._bind(expr, self._names.name(name), info, relax.Var)
        self.tensors[var.name] = name
        return var


def _spec(name: str, var: relax.Var) -> TensorSpec:
    return TensorSpec(name, tuple(int(d) for d in var.ty.shape.values), str(np.dtype(str(var.ty.dtype))))


def _type_shown(value: relax.Expr) -> str:
    return f"{value.ty.dtype}{[int(d) for d in value.ty.shape.values]}" if isinstance(value.ty, relax.TensorType) else str(value.ty)
