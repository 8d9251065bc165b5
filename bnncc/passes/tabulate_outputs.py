"""TabulateOutputs: on a processor without floating point, numbers that are a function of an integer sum are looked up, not computed.

A sum takes few values, and all of them are tried at compile time with the source's own operators, as for thresholds, so the numbers are the same bit for bit;
loading and storing them takes no floating point, and no library for it::

    n = bnn.dense(c, signs)                   n = bnn.dense(c, signs)
    f = astype(n, "float32")          ->      i = divide(subtract(n, lowest), step);  j = add(i, rows)
    y = multiply(f, gamma)                    y = take(table, j)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm.relax import op

from bnncc.ops import dtype_of, is_bnn
from bnncc.passes.chains import ChainRewriter
from bnncc.passes.code_range import accumulator_bounds, code_range
from bnncc.passes.context import PassContext
from bnncc.passes.fold_thresholds import accumulator_values
from bnncc.passes.rewrite import Builder, const

__all__ = ["tabulate_outputs"]

_LARGEST_TABLE = 1 << 13
"""Numbers in a table: 32 kB of flash. What takes more is computed."""


class _Tabulate(ChainRewriter):
    def rewrite(self, var, value, builder: Builder):
        root = self.chains.root[var]
        source = self.graph.value(root)
        if not self.graph.is_output(var) or dtype_of(var) != "float32" or not (is_bnn(source, "conv2d") or is_bnn(source, "dense")):
            return None
        codes, shape = code_range(source.args[0], self.graph.value), self.chains.constant_shape(var, root)
        low, high = accumulator_bounds(source, codes)
        rows = int(np.prod(shape))
        if (high - low) // 2 * rows > _LARGEST_TABLE or shape[:-1] != (1,) * (len(shape) - 1):
            return self._tell(var)
        sums = accumulator_values(source, codes)
        if len(sums) * rows > _LARGEST_TABLE:
            return self._tell(var)
        made = self.chains.evaluate(var, {root: sums.reshape(-1, *(1,) * len(shape))})
        table = np.broadcast_to(made, (len(sums), *shape)).reshape(len(sums), rows).T.astype(np.float32)
        index = builder.emit(op.subtract(self.mapping[root], const(np.int32(sums[0]))), f"{var.name}_distance")
        if len(sums) > 1 and (step := int(sums[1] - sums[0])) > 1:
            index = builder.emit(op.divide(index, const(np.int32(step))), f"{var.name}_row")
        if rows > 1:
            index = builder.emit(op.add(index, const((np.arange(rows) * len(sums)).astype(np.int32))), f"{var.name}_place")
        layer = next((v.name for v in self.chains.between(var, root) if v.name in self.ctx.nodes), None)
        if layer is not None:
            self.ctx.nodes[index.name] = self.ctx.nodes[layer]  # comments of the sums name the layer, those of the table the output
        return op.take(const(np.ascontiguousarray(table).reshape(-1)), index, axis=0, mode="clip")

    def _tell(self, var) -> None:
        self.ctx.warn(f"{self.ctx.onnx_name(var.name)}: its sums take too many values for a table, so it is computed by a library for floating point.")


def tabulate_outputs(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Look outputs that are functions of integer sums up, where the target has no floating point."""
    return mod if ctx.options.has_float_unit else _Tabulate(mod, ctx).run()
