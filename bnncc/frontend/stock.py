"""Operators without a converter of ours: the one of TVM's own ONNX importer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import onnx
from tvm import relax
from tvm.ir import GenericConst, Tuple, TupleGetItem
from tvm.relax.frontend.onnx import onnx_frontend

from bnncc.errors import UnsupportedOperator
from bnncc.frontend.onnx_graph import title

__all__ = ["convert_by_stock_importer"]


def convert_by_stock_importer(
    node: onnx.NodeProto, inputs: list[relax.Expr | None], opset: int, bind: Callable[[relax.Expr], relax.Var], supported: list[str]
) -> relax.Expr | list[relax.Expr]:
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
    relax.Expr or list of relax.Expr
        The outputs, not bound yet.

    Raises
    ------
    UnsupportedOperator
        TVM does not have it either, or its form needs more than single Relax operators.
    """
    table = onnx_frontend._get_convert_map()
    if node.op_type not in table:
        raise UnsupportedOperator(f"{title(node)}: the operator {node.op_type} is not supported. Supported are {', '.join(supported)}, and what TVM's ONNX "
                                  "importer converts. Replace the node by supported ones before the export.")
    frontend = onnx_frontend.ONNXGraphImporter({}, opset)
    attributes = frontend._parse_attr(node.attribute)
    attributes["tvm_custom"] = {"name": node.name, "num_outputs": len(node.output)}
    outer = {f"p{i}": value for i, value in enumerate(inputs) if isinstance(value, relax.Var)}
    inner = {name: relax.Var(name, value.ty) for name, value in outer.items()}
    given = onnx_frontend.onnx_input()
    given.extend(inner.get(f"p{i}", value) for i, value in enumerate(inputs))
    builder = relax.BlockBuilder()
    try:
        with contextlib.redirect_stdout(io.StringIO()), builder.function("part", list(inner.values())):
            with builder.dataflow():
                result = table[node.op_type].get_converter(opset)(builder, given, attributes, [{}, {}])
                result = builder.emit_output(result)
            builder.emit_func_output(result)
        module = builder.get()
    except Exception as error:  # TVM raises anything from AttributeError to its own errors
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnsupportedOperator(f"{title(node)}: TVM's converter for {node.op_type}, which stands in for one of ours, does not take it: {reason}. "
                                  "Replace the node by simpler operators before the export.") from error
    if len(module.functions) > 1:
        raise UnsupportedOperator(f"{title(node)}: {node.op_type} in this form takes more than Relax operators, which is not supported. Replace the node by "
                                  "simpler operators before the export.")
    return _take_over(module["part"], {inner[name]: outer[name] for name in inner}, bind, node)


def _take_over(function: relax.Function, known: dict[relax.Var, relax.Expr], bind: Callable, node: onnx.NodeProto) -> relax.Expr | list[relax.Expr]:
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    result = function.body.body
    last = None
    for binding in bindings:
        if not isinstance(binding, relax.VarBinding):
            raise UnsupportedOperator(f"{title(node)}: {node.op_type} in this form has a dynamic shape, which is not supported. Fix the shapes.")
        value = _substitute(binding.value, known)
        if isinstance(value, relax.Var | GenericConst | Tuple):
            known[binding.var] = value
        elif binding.var.same_as(result):
            last = value
        else:
            known[binding.var] = bind(value)
    if last is None:
        last = _substitute(result, known)
    if isinstance(last, Tuple):
        return list(last.fields)
    return last


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
