"""RecogniseLogic: elementwise arithmetic on two-valued tensors that takes two values is a boolean function; its truth table is found by evaluation.

OR by ``clip((a + 1) / 2 + (b + 1) / 2, 0, 1) * 2 - 1``, XNOR by a product, a majority by the sign of a sum: all the same rule::

    x = bnn.dequantize(a, 1, 0)
    y = bnn.dequantize(b, 1, 0)         ->     c = bnn.logic(a, b, table=[0, 1, 1, 0])
    z = multiply(x, y)                         z = bnn.dequantize(c, 1, 0)
"""

from __future__ import annotations

import itertools

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import bnn, is_bnn, static_shape
from bnncc.passes.chains import ELEMENTWISE, Chains
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.rewrite import Builder, Graph, Rewriter, const, op_name, used_vars

__all__ = ["recognise_logic"]

_MAX_INPUTS = 6


class _Finite:
    """A tensor as a function of two-valued codes: the codes, and its value in each of the cases."""

    def __init__(self, codes: tuple[relax.Var, ...], values: np.ndarray):
        self.codes, self.values = codes, values

    @property
    def two_valued(self) -> bool:
        return len(np.unique(self.values)) == 2


def _two_valued_codes(graph: Graph) -> set[relax.Var]:
    """Return the int8 tensors that hold only -1 and +1."""
    found: set[relax.Var] = set()
    for b in graph.bindings:
        if is_bnn(b.value, "quantize"):
            if b.value.attrs.step == 2:
                found.add(b.var)
        elif is_bnn(b.value, "logic"):
            found.add(b.var)
        elif str(getattr(b.var.ty, "dtype", "")) == "int8" and not is_bnn(b.value, "conv2d"):
            sources = [v for v in used_vars(b.value)]
            zero_pad = is_bnn(b.value, "pad") and b.value.attrs.mode == "constant" and b.value.attrs.code == 0
            if sources and not zero_pad and all(v in found for v in sources):
                found.add(b.var)
    return found


def _find(graph: Graph) -> dict[relax.Var, _Finite]:
    """Return the tensors that are boolean functions of codes, where they stop being inner steps of a larger one."""
    chains = Chains(graph)
    codes = _two_valued_codes(graph)
    finite: dict[relax.Var, _Finite] = {}
    for b in graph.bindings:
        if op_name(b.value) not in ELEMENTWISE or is_bnn(b.value, "quantize") and b.var in codes and b.value.args[0] not in finite:
            continue
        sources = [a for a in b.value.args if chains.moves(a)]
        if not sources or any(static_shape(a) != static_shape(b.var) for a in sources):
            continue
        if not all(a in codes or a in finite for a in sources):
            continue
        inputs = tuple(dict.fromkeys(c for a in sources for c in ((a,) if a in codes else finite[a].codes)))
        if len(inputs) > _MAX_INPUTS:
            continue
        if any(array is not None and array.size > 1 for array in map(graph.constant, b.value.args)) and not is_bnn(b.value, "quantize"):
            continue  # another function for every channel is no boolean function of the whole tensor
        rank = len(static_shape(b.var))
        cases = np.array(list(itertools.product((1, -1), repeat=len(inputs))), np.int8)[:, ::-1]  # bit i of the row: input i is -1
        points = {c: cases[:, i].reshape(-1, *(1,) * rank) for i, c in enumerate(inputs)}
        values = np.asarray(chains.evaluate(b.var, points))
        if values.size == len(cases):
            finite[b.var] = _Finite(inputs, values.reshape(-1).astype(np.float32))
    result = {}
    for var, f in finite.items():
        users = graph.users(var)
        inner = users and not graph.is_output(var) and all(u in finite and finite[u].two_valued and set(finite[u].codes) == set(f.codes) for u in users)
        renames_its_code = is_bnn(graph.value(var), "dequantize") and graph.value(var).args[0] in f.codes
        if f.two_valued and not inner and not renames_its_code:
            result[var] = f
    return result


class _Recognise(Rewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod)
        self.ctx = ctx
        self.found = _find(self.graph)

    def rewrite(self, var, value, builder: Builder):
        if var not in self.found:
            return None
        found = self.found[var]
        low, high = float(found.values.min()), float(found.values.max())
        if len(found.codes) == 1 and not is_bnn(self.graph.value(var), "quantize"):
            plus, minus = (np.float32(v) for v in found.values)
            code = self.mapping.get(found.codes[0], found.codes[0])
            return bnn.dequantize(code, const((plus - minus) / np.float32(2)), const((plus + minus) / np.float32(2)))
        table = [int(v == low) for v in found.values]
        logic = bnn.logic(*(self.mapping.get(c, c) for c in found.codes), table=table)
        if is_bnn(self.graph.value(var), "quantize"):
            return logic
        scale, offset = np.float32((high - low) / 2), np.float32((high + low) / 2)
        code = builder.emit(logic, f"{var.name}_code")
        view = self.ctx.tensors.get(var.name)
        if view is not None:
            self.ctx.tensors[code.name] = TensorView(view.onnx, view.perm, float(scale), float(offset))
        return bnn.dequantize(code, const(scale), const(offset))


def recognise_logic(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Replace two-valued elementwise functions of several two-valued tensors by their truth tables."""
    return _Recognise(mod, ctx).run()
