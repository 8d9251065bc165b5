"""PackCodeSigns: layers of signs on small integers keep the signs as bits, which look up sums of four inputs, where that is expected to be quickest.

What is left goes on to LowerPlanes and LowerIntegers::

    n = bnn.conv2d(c, w, padding=1, pad_code=0)     ->     p = bnn.pad(c, padding=1, code=0)
                                                           n = bnn.sign_conv2d(p, words, codes=(0, 15, 1))
"""

from __future__ import annotations

import math

import numpy as np
import tvm

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.passes.bit_planes import code_planes
from bnncc.passes.code_range import LARGEST_SUM, CodeRange, code_range
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant

__all__ = ["pack_code_signs"]


class _Pack(ContextRewriter):
    def rewrite(self, var, value, builder: Builder):
        if not (is_bnn(value, "conv2d") or is_bnn(value, "dense")) or dtype_of(value.args[0]) not in ("int8", "uint8"):
            return None
        weights, x, attrs = constant(value.args[1]), value.args[0], value.attrs
        if not np.all(np.abs(weights) == 1):
            return None
        codes, groups, padded = code_range(self.graph.value(var).args[0], self.graph.value), 1, False
        if is_bnn(value, "conv2d"):
            groups, padded = int(attrs.groups), any(int(p) for p in attrs.padding)
        bits = code_planes(codes).count  # what planes would take: they correct the border instead
        if padded:
            codes = codes.union(CodeRange(int(attrs.pad_code), int(attrs.pad_code), 0))
        planes, inputs = code_planes(codes), weights[0].size
        pixels = math.prod(static_shape(var)[-3:-1])
        fits = inputs * max(-codes.lo, codes.hi) <= LARGEST_SUM
        sums = self.ctx.options.sums
        if not fits or sums is None or planes.count > 8 or not sums.pay(bits, inputs, len(weights) // groups, pixels):
            return None
        words = const(pack_reference(PackAttrs(weights.shape[-1], 1, self.ctx.options.word_bits), weights.astype(np.int8)))
        said = (codes.lo, codes.lo + -(-(codes.hi - codes.lo) // planes.step) * planes.step, planes.step)
        how = f"sums of 4 codes of {planes.count} bits, looked up by 4 signs"
        self.ctx.tell_sums(var.name, how, bits=False, integer=True, weight_bytes=weights.size // 8)
        if is_bnn(value, "dense"):
            return bnn.sign_dense(x, words, said)
        if padded:
            x = builder.emit(bnn.pad(x, attrs.padding, "constant", attrs.pad_code), f"{var.name}_padded")
        return bnn.sign_conv2d(x, words, attrs.strides, attrs.dilation, groups, said)


def pack_code_signs(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Keep the weights of layers on small integers as bits where sums looked up by them are quickest."""
    return _Pack(mod, ctx).run()
