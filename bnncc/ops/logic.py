"""``bnn.logic``: a function of codes by its table, and ``bnn.packed_logic``: an n-ary boolean function of words.

A code of two values has the digits 0 (+1) and 1 (-1), one of three values 0 (+1), 1 (0) and 2 (-1). Row r of the table is the case whose mixed-radix digits,
first input least, are r; its entry is the output's code. So XNOR (the product of two signs) has the table (1, -1, -1, 1), OR of "+1 is true" has (1, 1, 1,
-1).

On words a table holds bits: row r is the case in which input i is -1 exactly where bit i of r is set, and an entry of 1 makes the output -1. An input may have
several planes of words (ops/pack.py); the operator says which one it reads of each. The result has several where there is more than one table.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.pack import tail_mask, words_per_group
from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["LogicAttrs", "PackedLogicAttrs", "logic_reference", "packed_logic_reference"]


@py_class("bnncc.LogicAttrs", structural_eq="tree", frozen=True)
class LogicAttrs(tvm.ir.Attrs):
    """Codes by row, and how many values each input takes."""

    table: tuple[int, ...]
    levels: tuple[int, ...]


@py_class("bnncc.PackedLogicAttrs", structural_eq="tree", frozen=True)
class PackedLogicAttrs(tvm.ir.Attrs):
    """Truth tables of 2**n bits, one a plane of the result, the channels and groups that the words hold, and the plane read of each input."""

    table: tuple[int, ...]
    channels: int
    groups: int
    planes: tuple[int, ...]


def logic_reference(attrs, *inputs: np.ndarray) -> np.ndarray:
    """Look each element's case up; inputs and output are int8 codes and broadcast together."""
    row, radix = 0, 1
    for x, levels in zip(inputs, attrs.levels, strict=True):
        row = row + radix * ((1 - x.astype(np.int64)) // (2 if levels == 2 else 1))
        radix *= levels
    return np.asarray(list(attrs.table), np.int8)[row]


def packed_logic_reference(attrs, *inputs: np.ndarray) -> np.ndarray:
    """The same on words; tail bits of the result are 0."""
    bits = inputs[0].dtype.itemsize * 8
    words = attrs.groups * words_per_group(attrs.channels, attrs.groups, bits)
    read = [x[..., plane * words : (plane + 1) * words] for x, plane in zip(inputs, attrs.planes, strict=True)]
    results = []
    for table in np.array(list(attrs.table)).reshape(-1, 1 << len(read)):
        out = np.zeros_like(read[0])
        for row in np.flatnonzero(table):
            term = np.full_like(out, np.array(-1, np.int64).astype(out.dtype))
            for i, x in enumerate(read):
                term &= x if row >> i & 1 else ~x
            out |= term
        results.append(out & tail_mask(attrs.channels, attrs.groups, bits))
    return np.concatenate(results, axis=-1)


def _infer_logic(call: relax.Call) -> relax.Type:
    levels = tuple(call.attrs.levels)
    require(len(levels) == len(call.args) and set(levels) <= {2, 3}, "logic: every input takes two or three values")
    rows = int(np.prod(levels))
    require(len(call.attrs.table) == rows, f"logic: inputs of {levels} values need {rows} table entries, found {len(call.attrs.table)}")
    require(set(call.attrs.table) <= {-1, 0, 1}, "logic: entries are codes, -1, 0 or +1")
    require(all(dtype_of(x) == "int8" for x in call.args), "logic: inputs must be int8 codes")
    return relax.TensorType(np.broadcast_shapes(*(static_shape(x) for x in call.args)), "int8")


def _infer_packed(call: relax.Call) -> relax.Type:
    a = call.attrs
    results, rest = divmod(len(a.table), 1 << len(call.args))
    require(results > 0 and not rest, f"packed_logic: {len(call.args)} inputs need {1 << len(call.args)} table entries")
    require(len(a.planes) == len(call.args), "packed_logic: a plane for each input")
    require(len({(static_shape(x)[:-1], dtype_of(x)) for x in call.args}) == 1, "packed_logic: inputs differ in shape or word")
    dtype = dtype_of(call.args[0])
    words = a.groups * words_per_group(a.channels, a.groups, int(dtype[4:]))
    for x, plane in zip(call.args, a.planes, strict=True):
        require(
            static_shape(x)[-1] % words == 0 and plane < static_shape(x)[-1] // words, f"packed_logic: {static_shape(x)} has no plane {plane} of {words} words"
        )
    return relax.TensorType((*static_shape(call.args[0])[:-1], results * words), dtype)


def _build_logic(op):
    def logic(*inputs, table, levels=None):
        return relax.Call(op, list(inputs), LogicAttrs(tuple(table), tuple(levels or (2,) * len(inputs))))

    return logic


def _build_packed(op):
    def packed_logic(*inputs, table, channels, groups=1, planes=None):
        return relax.Call(op, list(inputs), PackedLogicAttrs(tuple(table), channels, groups, tuple(planes or (0,) * len(inputs))))

    return packed_logic


define_op("logic", _build_logic, _infer_logic, logic_reference)
define_op("packed_logic", _build_packed, _infer_packed, packed_logic_reference)
