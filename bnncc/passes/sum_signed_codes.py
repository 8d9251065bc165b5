"""SumSignedCodes: on a processor without vectors, convolutions of codes of a few channels by signs become sums and differences: first layers of images above
all.

Sums of a few taps are made once for all output channels there, and which of them a channel takes stands in the code or in bytes
(schedules/scalar/signed_sums.py)::

    n = bnn.conv2d(c, w, padding=1, pad_code=128)     ->     n = bnn.signed_sum_conv2d(c, w, signs="5f..", lo=0, hi=255, padding=1, pad_code=128)
"""

from __future__ import annotations

import numpy as np
import tvm

from bnncc.ops import bnn, is_bnn, static_shape
from bnncc.ops.signed_sum_conv2d import spell_signs
from bnncc.passes.code_range import CodeRange, code_range
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, constant
from bnncc.schedules.scalar.signed_sums import fits_halves

__all__ = ["sum_signed_codes"]

_MOST_CHANNELS = 4


class _Sum(ContextRewriter):
    def rewrite(self, var, value, builder: Builder):
        if not self.ctx.options.sums_codes or not is_bnn(value, "conv2d"):
            return None
        weights, attrs = constant(value.args[1]), value.attrs
        if not np.all(np.abs(weights) == 1) or weights.size < 2 or int(attrs.groups) > 1 or any(int(d) > 1 for d in attrs.dilation):
            return None
        codes = code_range(self.graph.value(var).args[0], self.graph.value)
        reason = self._obstacle(weights, static_shape(var), self._padded(codes, attrs))
        if reason:
            self.ctx.tell_sums(var.name, f"products of integers, as {reason}")
            return None
        self.ctx.tell_sums(var.name, "sums of a few taps, added and subtracted")
        signs = spell_signs(weights)
        return bnn.signed_sum_conv2d(
            *value.args, signs, codes.lo, codes.hi, attrs.strides, attrs.padding, attrs.dilation, int(attrs.groups), int(attrs.pad_code)
        )

    @staticmethod
    def _padded(codes: CodeRange, attrs) -> CodeRange:
        return codes.union(CodeRange(int(attrs.pad_code), int(attrs.pad_code), 0)) if any(int(p) for p in attrs.padding) else codes

    @staticmethod
    def _obstacle(weights, shape, codes: CodeRange) -> str:
        """Return why a layer of signs is not to be summed up so; empty where it is."""
        inputs = weights.size // len(weights)
        if weights.shape[3] > _MOST_CHANNELS:
            return f"{weights.shape[3]} channels are many for sums of a few taps"
        if not fits_halves(inputs, codes.lo, codes.hi):
            return f"sums of {inputs} codes from {codes.lo} to {codes.hi} do not fit 16 bits"
        return "a row of outputs is one pixel" if shape[2] < 2 else ""


def sum_signed_codes(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Give convolutions of codes by signs, where channels are few, the operator that knows the signs."""
    return _Sum(mod, ctx).run()
