"""PackSigns: float layers whose weights are signs times a scale for each output channel keep the signs as bits and multiply their sums by the scale.

BinaryConnect, binary weight networks, and the first layer of many others. The sums are float sums in another order, as those of every float layer are::

    y = nn.conv2d(x, W)                ->     s = bnn.sign_conv2d(x, words)
                                              y = multiply(s, scale)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm.relax import op

from bnncc.ops import bnn, static_shape
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.passes.context import PassContext
from bnncc.passes.recognise_binary import two_valued
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant, op_name

__all__ = ["pack_signs"]

_TOLERANCE = 2.0**-21
"""Largest relative distance of a weight's magnitude from its filter's scale: real inputs do not average more than rounding out."""


class _Pack(ContextRewriter):
    def rewrite(self, var, value, builder: Builder):
        name = op_name(value)
        weight = constant(value.args[1]) if name in ("relax.nn.conv2d", "relax.matmul") else None
        if weight is None or weight.ndim != len(static_shape(value.args[0])):
            return None
        filters = np.moveaxis(weight, -1, 0)  # HWIO to OHWI, (K, M) to (M, K)
        found = two_valued(filters) if filters.shape[-1] > 1 else "depthwise"  # which has a kernel of its own
        if isinstance(found, str) or len(np.unique(found.signs)) == 1:
            return None
        magnitudes, scale = np.abs(filters.reshape(len(filters), -1)), found.scale
        if np.any(np.abs(magnitudes - scale[:, None]) > _TOLERANCE * scale[:, None]):
            return None
        words = const(pack_reference(PackAttrs(filters.shape[-1], 1, self.ctx.options.word_bits), found.signs))
        if name == "relax.matmul":
            sums = bnn.sign_dense(value.args[0], words)
        else:
            sums = bnn.sign_conv2d(value.args[0], words, value.attrs.strides, value.attrs.dilation, int(value.attrs.groups))
        self.ctx.tell_sums(var.name, "float sums, weights of 1 bit", adds=True, weight_bytes=filters.size // 8)
        if np.all(scale == 1):
            return sums
        return op.multiply(builder.emit(sums, f"{var.name}_sums"), const(scale if np.any(scale != scale[0]) else scale[0]))


def pack_signs(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Keep the weights of float layers as bits where they are signs times a scale."""
    return _Pack(mod, ctx).run()
