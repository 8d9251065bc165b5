"""LowerIntegers: layers on codes of more than one bit take their input padded and, on a processor with vectors, widened to int16, as their kernel reads it.

Widening costs nothing where the codes are made, in the epilogue of the layer before. A depthwise layer has no channels to sum over: it runs as float
convolution of whole numbers, exact as long as no sum passes 2^24::

    n = bnn.conv2d(c, w, padding=1, pad_code=0)     ->     p = bnn.pad(c, padding=1, code=0)
                                                           x = astype(p, "int16")
                                                           n = bnn.conv2d(x, w)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm.relax import op

from bnncc.errors import InternalError
from bnncc.ops import bnn, is_bnn
from bnncc.passes.code_range import LARGEST_SUM, accumulator_bounds, code_range
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant

__all__ = ["lower_integers"]

_EXACT_IN_FLOAT = 1 << 24


class _Lower(ContextRewriter):
    def rewrite(self, var, value, builder: Builder):
        if is_bnn(value, "conv2d") or is_bnn(value, "dense"):
            self._check_sums(var)
        if is_bnn(value, "conv2d"):
            return self._conv2d(var, value, builder)
        if is_bnn(value, "dense"):
            return bnn.dense(self._widened(value.args[0], var, builder), value.args[1])
        if is_bnn(value, "max_pool2d"):
            return self._max_pool2d(var, value, builder)
        return None

    def _widened(self, x, var, builder: Builder):
        """Return codes as the kernel reads them; `verify` knows them still."""
        if not self.ctx.options.widens_codes:
            return x
        wide = builder.emit(op.astype(x, "int16"), f"{var.name}_wide")
        if x.name in self.ctx.tensors:
            self.ctx.tensors[wide.name] = self.ctx.tensors[x.name]
        return wide

    def _check_sums(self, var) -> None:
        """Make sure that int32 holds every sum: RecogniseBinary leaves layers in float where it might not."""
        call = self.graph.value(var)
        low, high = accumulator_bounds(call, code_range(call.args[0], self.graph.value))
        if max(-low, high) > LARGEST_SUM:
            raise InternalError(f"The sums of {var.name} go from {low} to {high}, and an accumulator holds 32 bits; such a layer has to stay in float.")

    def _conv2d(self, var, value, builder):
        x, weights = value.args[0], constant(value.args[1])
        attrs = value.attrs
        if any(int(p) for p in attrs.padding):
            x = builder.emit(bnn.pad(x, attrs.padding, "constant", attrs.pad_code), f"{var.name}_padded")
        groups = int(attrs.groups)
        if weights.shape[3] == 1 and weights.shape[0] == groups > 1:
            low, high = accumulator_bounds(value, code_range(self.graph.value(var).args[0], self.graph.value))
            if max(-low, high) <= _EXACT_IN_FLOAT:
                real = builder.emit(op.astype(x, "float32"), f"{var.name}_f32")
                kernel = const(weights.transpose(1, 2, 3, 0).astype(np.float32))  # OHWI to HWIO
                sums = op.nn.conv2d(real, kernel, attrs.strides, 0, attrs.dilation, groups, "NHWC", "HWIO")
                return op.astype(builder.emit(sums, f"{var.name}_sums"), "int32")
        return bnn.conv2d(self._widened(x, var, builder), value.args[1], attrs.strides, (0, 0, 0, 0), attrs.dilation, groups)

    def _max_pool2d(self, var, value, builder):
        """A minimum is the maximum of the negated codes; int16 holds those of every code."""
        x, flip = value.args[0], constant(value.args[1])
        attrs, dtype = value.attrs, str(self.graph.value(var).ty.dtype)
        flipped = np.any(flip < 0)
        if flipped:
            x = builder.emit(op.multiply(builder.emit(op.astype(x, "int16"), f"{var.name}_wide"), const(flip, "int16")), f"{var.name}_flipped")
        top, left, bottom, right = (int(p) for p in attrs.padding)
        size, strides, dilation = (tuple(int(v) for v in pair) for pair in (attrs.pool_size, attrs.strides, attrs.dilation))
        result = op.nn.max_pool2d(x, size, strides, (top, left, bottom, right), dilation, layout="NHWC")
        if not flipped:
            return result
        result = builder.emit(op.multiply(builder.emit(result, f"{var.name}_pooled"), const(flip, "int16")), f"{var.name}_back")
        return op.astype(result, dtype)


def lower_integers(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Pad and widen what layers on small integers read, and spell pools of codes as plain ones.

    Raises
    ------
    InternalError
        A layer's sums could leave int32.
    """
    return _Lower(mod, ctx).run()
