"""``bnn.logic``: an n-ary boolean function of two-valued tensors by its truth table, and the same on words.

Row r of the table is the case in which input i is -1 exactly where bit i of r is set; an entry of 1 makes the output -1. So XNOR
(the product of two signs) has the table (0, 1, 1, 0), OR of "+1 is true" (+1 unless both are -1) has (0, 0, 0, 1).
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.pack import tail_mask
from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["LogicAttrs", "PackedLogicAttrs", "logic_reference", "packed_logic_reference"]


@py_class("bnncc.LogicAttrs", structural_eq="tree", frozen=True)
class LogicAttrs(tvm.ir.Attrs):
    """Truth table of 2**n entries."""

    table: tuple[int, ...]


@py_class("bnncc.PackedLogicAttrs", structural_eq="tree", frozen=True)
class PackedLogicAttrs(tvm.ir.Attrs):
    """Truth table, and the channels and groups that the words hold."""

    table: tuple[int, ...]
    channels: int
    groups: int


def logic_reference(attrs, *inputs: np.ndarray) -> np.ndarray:
    """Look each element's case up; inputs and output are int8 of -1 and +1 and broadcast together."""
    row = sum((x < 0).astype(np.int64) << i for i, x in enumerate(inputs))
    return np.where(np.asarray(list(attrs.table), bool)[row], -1, 1).astype(np.int8)


def packed_logic_reference(attrs, *inputs: np.ndarray) -> np.ndarray:
    """The same on words; tail bits of the result are 0."""
    out = np.zeros_like(inputs[0])
    for row, value in enumerate(attrs.table):
        if value:
            term = np.full_like(out, np.array(-1, np.int64).astype(out.dtype))
            for i, x in enumerate(inputs):
                term &= x if row >> i & 1 else ~x
            out |= term
    return out & tail_mask(attrs.channels, attrs.groups, out.dtype.itemsize * 8)


def _check_table(call):
    require(len(call.attrs.table) == 1 << len(call.args), f"logic: {len(call.args)} inputs need {1 << len(call.args)} table entries")


def _infer_logic(call: relax.Call) -> relax.Type:
    _check_table(call)
    require(all(dtype_of(x) == "int8" for x in call.args), "logic: inputs must be int8 codes")
    return relax.TensorType(np.broadcast_shapes(*(static_shape(x) for x in call.args)), "int8")


def _infer_packed(call: relax.Call) -> relax.Type:
    _check_table(call)
    require(len({(static_shape(x), dtype_of(x)) for x in call.args}) == 1, "packed_logic: inputs differ in shape or word")
    return call.args[0].ty


def _build_packed(op):
    def packed_logic(*inputs, table, channels, groups=1):
        return relax.Call(op, list(inputs), PackedLogicAttrs(tuple(table), channels, groups))

    return packed_logic


define_op("logic", lambda op: lambda *inputs, table: relax.Call(op, list(inputs), LogicAttrs(tuple(table))), _infer_logic, logic_reference)
define_op("packed_logic", _build_packed, _infer_packed, packed_logic_reference)
