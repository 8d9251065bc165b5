"""RecogniseLogic: elementwise arithmetic on codes that takes two values is a boolean function; its truth table is found by evaluation.

OR by ``clip((a + 1) / 2 + (b + 1) / 2, 0, 1) * 2 - 1``, XNOR by a product, a majority by the sign of a sum: all the same rule. The 0 of a plain Sign goes
through it as a third value, as long as the result takes three evenly spaced values as well::

    x = bnn.dequantize(a, 1, 0)
    y = bnn.dequantize(b, 1, 0)         ->     c = bnn.logic(a, b, table=[1, -1, -1, 1])
    z = multiply(x, y)                         z = bnn.dequantize(c, 1, 0)
"""

from __future__ import annotations

import itertools

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.passes.chains import ELEMENTWISE, Chains
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, Graph, const, op_name, used_vars

__all__ = ["recognise_logic"]

_MAX_INPUTS = 6


class _Finite:
    """A tensor as a function of codes: the codes, and its value in each of the cases."""

    def __init__(self, codes: tuple[relax.Var, ...], levels: tuple[int, ...], values: np.ndarray):
        self.codes, self.levels, self.values = codes, levels, values
        self.distinct = np.unique(values)

    @property
    def is_code(self) -> bool:
        """Whether the values are two, or three evenly spaced ones where a third comes in."""
        d = self.distinct
        return len(d) == 2 or (len(d) == 3 and 3 in self.levels and d[2] - d[1] == d[1] - d[0])

    @property
    def scale_and_offset(self) -> tuple[np.float32, np.float32]:
        low, high = self.distinct[0], self.distinct[-1]
        return np.float32((high - low) / 2), np.float32((high + low) / 2)


def code_levels(graph: Graph) -> dict[relax.Var, int]:
    """Return how many values, 2 or 3, each int8 tensor takes that is made of codes; other int8 tensors are just numbers."""
    found: dict[relax.Var, int] = {}
    for b in graph.bindings:
        if is_bnn(b.value, "quantize"):
            if static_shape(b.value.args[1])[0] == 3 - b.value.attrs.step:
                found[b.var] = 4 - b.value.attrs.step
        elif is_bnn(b.value, "logic"):
            found[b.var] = 3 if 0 in b.value.attrs.table else 2
        elif str(getattr(b.var.ty, "dtype", "")) == "int8":
            zero_pad = is_bnn(b.value, "pad") and b.value.attrs.mode == "constant" and b.value.attrs.code == 0
            sources = list(used_vars(b.value))
            if sources and all(v in found for v in sources) and op_name(b.value) not in ELEMENTWISE:
                found[b.var] = 3 if zero_pad else max(found[v] for v in sources)
    return found


def _find(graph: Graph) -> dict[relax.Var, _Finite]:
    """Return the tensors that are boolean functions of codes, where they stop being inner steps of a larger one."""
    chains = Chains(graph)
    codes = code_levels(graph)
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
        levels = tuple(codes[c] for c in inputs)
        digits = [(1, -1) if n == 2 else (1, 0, -1) for n in reversed(levels)]
        cases = np.array(list(itertools.product(*digits)), np.int8)[:, ::-1]  # the first input's digit counts least
        points = {c: cases[:, i].reshape(-1, *(1,) * rank) for i, c in enumerate(inputs)}
        values = np.asarray(chains.evaluate(b.var, points))
        if values.size == len(cases):
            finite[b.var] = _Finite(inputs, levels, values.reshape(-1).astype(np.float32))
    result = {}
    for var, f in finite.items():
        users = graph.users(var)
        inner = users and not graph.is_output(var) and all(u in finite and finite[u].is_code and set(finite[u].codes) == set(f.codes) for u in users)
        renames_its_code = is_bnn(graph.value(var), "dequantize") and graph.value(var).args[0] in f.codes
        if f.is_code and not inner and not renames_its_code:
            result[var] = f
    return result


class _Recognise(ContextRewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod, ctx)
        self.found = _find(self.graph)

    def rewrite(self, var, value, builder: Builder):
        if var not in self.found:
            return None
        found = self.found[var]
        scale, offset = found.scale_and_offset
        plain = not is_bnn(self.graph.value(var), "quantize")
        if len(found.codes) == 1 and plain and (len(found.values) == 2 or found.values[1] == offset) and dtype_of(var) == "float32":
            code = self.mapping.get(found.codes[0], found.codes[0])
            return bnn.dequantize(code, const(scale if found.values[0] > found.values[-1] else -scale), const(offset))
        table = [int(round(float(v - offset) / float(scale))) for v in found.values]
        logic = bnn.logic(*(self.mapping.get(c, c) for c in found.codes), table=table, levels=found.levels)
        if not plain:
            return logic
        code = builder.emit(logic, f"{var.name}_code")
        view = self.ctx.tensors.get(var.name)
        if view is not None:
            self.ctx.tensors[code.name] = view.rescaled(float(scale), float(offset))
        value = bnn.dequantize(code, const(scale), const(offset))
        return value if dtype_of(var) == "float32" else op.greater(builder.emit(value, f"{var.name}_f32"), const(np.float32(0.5)))


def recognise_logic(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Replace elementwise functions of codes that take two values, or three evenly spaced ones, by their tables."""
    return _Recognise(mod, ctx).run()
