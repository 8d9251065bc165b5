"""Operators without a converter of ours: the one of TVM's own ONNX importer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import onnx
from tvm import relax
from tvm.ir import GenericConst, Tuple, TupleGetItem, TupleType
from tvm.relax.frontend.onnx import onnx_frontend
from tvm.tirx import IntImm

from bnncc.errors import UnsupportedOperator
from bnncc.frontend.onnx_graph import title

__all__ = ["convert_by_stock_importer"]


def convert_by_stock_importer(
    node: onnx.NodeProto, inputs: list[relax.Expr | None], opset: int, bind: Callable[[relax.Expr], relax.Var], supported: list[str]
) -> list[relax.Expr]:
    """Convert one node with TVM's converter and take over the bindings it makes.

    Parameters
    ----------
    node, inputs, opset
        As in Conversion.
    bind
        Binds an expression to a fresh variable.
    supported
        Operators to list when this one is not.

    Returns
    -------
    list of relax.Expr
        The outputs, not bound yet.

    Raises
    ------
    UnsupportedOperator
        TVM does not have it either, or its form needs more than single Relax operators.
    """
    table = onnx_frontend._get_convert_map()
    if node.op_type not in table:
        raise UnsupportedOperator(
            f"{title(node)}: the operator {node.op_type} is not supported. Supported are {', '.join(supported)}, and what TVM's ONNX "
            "importer converts. Replace the node by supported ones before the export."
        )
    frontend = onnx_frontend.ONNXGraphImporter({}, opset)
    attributes = frontend._parse_attr(node.attribute)
    attributes["tvm_custom"] = {"name": node.name, "num_outputs": len(node.output)}
    outer = {f"p{i}": value for i, value in enumerate(inputs) if isinstance(value, relax.Var)}
    inner = {name: relax.Var(name, value.ty) for name, value in outer.items()}
    given = onnx_frontend.onnx_input()
    given.extend(inner.get(f"p{i}", value) for i, value in enumerate(inputs))
    builder = relax.BlockBuilder()
    builder._begin_dataflow_block()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            results = _emit(builder, table[node.op_type].get_converter(opset)(builder, given, attributes, [{}, {}]))
    except Exception as error:  # TVM raises anything from AttributeError to its own errors
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnsupportedOperator(
            f"{title(node)}: TVM's converter for {node.op_type}, which stands in for one of ours, does not take it: {reason}. "
            "Replace the node by simpler operators before the export."
        ) from error
    finally:
        block = builder._end_block()
    if builder.get().functions or any(not _is_plain(binding) for binding in block.bindings):
        raise UnsupportedOperator(
            f"{title(node)}: {node.op_type} in this form takes more than Relax operators on static shapes, which is not supported. Replace "
            "the node by simpler operators before the export."
        )
    return _take_over(block.bindings, results, {inner[name]: outer[name] for name in inner}, bind)


def _emit(builder: relax.BlockBuilder, result: relax.Expr) -> list[relax.Expr]:
    """Bind the outputs that a converter gave, each to a variable of its own."""
    if not isinstance(result, Tuple):
        result = builder.emit(result)
        if not isinstance(result.ty, TupleType):
            return [result]
        result = Tuple([TupleGetItem(result, i) for i in range(len(result.ty.fields))])
    return [builder.emit(field) for field in result.fields]


def _is_plain(binding: relax.Binding) -> bool:
    shape = getattr(binding.var.ty, "shape", None)
    static = shape is None or all(isinstance(d, IntImm) for d in shape.values)
    return isinstance(binding, relax.VarBinding) and static and not isinstance(binding.var.ty, relax.ShapeType)


def _take_over(
    bindings: list[relax.Binding], results: list[relax.Expr], known: dict[relax.Var, relax.Expr], bind: Callable
) -> list[relax.Expr]:
    """Bind again, over our own variables, what the converter bound; outputs stay unbound, to get their ONNX names."""
    outputs: dict[relax.Var, relax.Expr] = {}
    for binding in bindings:
        value = _substitute(binding.value, known)
        if isinstance(value, relax.Var | GenericConst | Tuple):
            known[binding.var] = value
        elif any(binding.var.same_as(result) for result in results):
            outputs[binding.var] = value
        else:
            known[binding.var] = bind(value)
    return [outputs.get(result, known.get(result, result)) for result in results]


def _substitute(expr: relax.Expr, known: dict[relax.Var, relax.Expr]) -> relax.Expr:
    if isinstance(expr, relax.Var):
        return known[expr]
    if isinstance(expr, Tuple):
        return Tuple([_substitute(field, known) for field in expr.fields])
    if isinstance(expr, TupleGetItem):
        return TupleGetItem(_substitute(expr.tuple_value, known), expr.index)
    if isinstance(expr, relax.Call):
        return relax.Call(expr.op, [_substitute(a, known) for a in expr.args], expr.attrs, expr.ty_args)
    return expr
