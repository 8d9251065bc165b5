"""FoldThresholds: everything between an integer accumulator and the next quantizer becomes integer thresholds.

The accumulator's range is finite, so the fold is proven, not assumed: the float chain (bias, BatchNorm, scales, PReLU, ReLU, hardtanh, the comparison) is
evaluated in float32, with the source's own operators, on every value the accumulator can take, channel by channel; where those are many, where bisection
needs it (integer_steps.py). A channel in which the codes neither only rise nor only fall keeps its chain. A plain Sign whose 0 no accumulator value reaches
becomes two-valued here::

    n = bnn.conv2d(c, signs)                        n = bnn.conv2d(c, signs)
    f = astype(n, "float32")                  ->    q = bnn.quantize(n, integer thresholds, flip)
    y = multiply(f, gamma)
    q = bnn.quantize(y, thresholds, flip)

Codes of another quantizer, and bytes, take few values as well: what is made of these is folded alike.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm.relax import op

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.passes.chains import ChainRewriter
from bnncc.passes.code_range import CODE_TYPES, CodeRange, accumulator_bounds, code_range, runs_on_bits
from bnncc.passes.context import PassContext
from bnncc.passes.integer_steps import IntegerSteps, bisect_integers, integer_thresholds
from bnncc.passes.rewrite import Builder, const

__all__ = ["fold_thresholds", "accumulator_values"]

_CHEAP_TABLE = 1 << 20
_LARGEST_TABLE = 1 << 26
"""Evaluations of the chain: up to the first all values are tried, above bisection is; where the chain is nothing that can be bisected, all values up to the
second."""


def accumulator_values(call, codes: CodeRange) -> np.ndarray:
    """Return, ascending, every value that a ``bnn.conv2d`` or ``bnn.dense`` can take on codes of this range.

    A dot product of K signs has the parity of K; terms that are 0 (padding, a ternary code) break it. Of other codes and weights all integers between the ends
    are taken.
    """
    if not runs_on_bits(call, codes):
        low, high = accumulator_bounds(call, codes)
        return np.arange(low, high + 1, dtype=np.int32)
    length = int(np.prod(static_shape(call.args[1])[1:]))
    even = codes.levels == 2 and not (is_bnn(call, "conv2d") and any(call.attrs.padding) and call.attrs.pad_code == 0)
    return np.arange(-length, length + 1, 2 if even else 1, dtype=np.int32)


class _Fold(ChainRewriter):
    def rewrite(self, var, value, builder: Builder):
        return self._fold(var, builder) if is_bnn(value, "quantize") else None

    def _fold(self, var, builder):
        root = self.chains.root[var]
        source = self.graph.value(root)
        if root.same_as(var):
            return None
        quantizer = self.graph.value(var)
        if dtype_of(quantizer.args[0]) == "int32":
            return None  # done already
        if dtype_of(root) in CODE_TYPES:
            steps = self._steps_of_codes(var, root, builder)
        elif is_bnn(source, "conv2d") or is_bnn(source, "dense"):
            steps = self._steps(var, root, source, builder)
        else:
            return None
        if steps is None:
            self.ctx.warn(
                f"{self.ctx.onnx_name(var.name)}: the accumulator takes too many values to prove thresholds for the chain behind it; it stays in float."
            )
            return None
        lo, step, top = quantizer.attrs.lo, quantizer.attrs.step, static_shape(quantizer.args[1])[0]
        if (lo, step, top) == (-1, 1, 2) and not steps.takes(0):
            lo, step, top = -1, 2, 1
        found = integer_thresholds(steps, lo, step, top)
        if found is None:
            self.ctx.warn(f"{self.ctx.onnx_name(var.name)}: the chain from the accumulator is not monotone in every channel; it stays in float.")
            return None
        thresholds, flip = found
        whole = self.mapping.get(root, root)
        if dtype_of(root) != "int32":
            whole = builder.emit(op.astype(whole, "int32"), f"{var.name}_whole")
        return bnn.quantize(whole, const(thresholds), const(flip), lo, step, step == 1 and quantizer.attrs.sign)

    def _steps_of_codes(self, var, root, builder) -> IntegerSteps:
        """Return the codes as a function of those of another quantizer, or of an input of bytes."""
        values = code_range(self.mapping.get(root, root), builder.values.get).codes
        return self._tried(var, root, values, self.chains.constant_shape(var, root))

    def _tried(self, var, root, values: np.ndarray, shape: tuple[int, ...]) -> IntegerSteps:
        """Return the codes as a function of the root, each of its values tried."""
        points = values.reshape(-1, *(1,) * len(shape)).astype(dtype_of(root))
        made = np.broadcast_to(self.chains.evaluate(var, {root: points}), (len(values), *shape))
        points = points.astype(np.int32)
        return IntegerSteps(points, points, made.astype(np.int32))

    def _steps(self, var, root, source, builder) -> IntegerSteps | None:
        """Return the codes as a function of the accumulator, proven on all that it can be."""
        shape = self.chains.constant_shape(var, root)
        codes = code_range(self.mapping.get(source.args[0], source.args[0]), builder.values.get)
        low, high = accumulator_bounds(source, codes)
        cost = (high - low) * int(np.prod(shape))
        found = bisect_integers(self.chains, var, root, low, high) if cost > _CHEAP_TABLE else None
        if found is not None or cost > 2 * _LARGEST_TABLE:
            return found
        values = accumulator_values(source, codes)
        if len(values) * int(np.prod(shape)) > _LARGEST_TABLE:
            return None
        return self._tried(var, root, values, shape)


def fold_thresholds(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Fold float chains between accumulators and quantizers into integer thresholds, proven for every reachable value."""
    return _Fold(mod, ctx).run()
