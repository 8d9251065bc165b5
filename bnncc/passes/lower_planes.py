"""LowerPlanes: layers on small integers whose codes and weights take few bits run as popcounts of bit planes, where that is expected to be quicker.

The codes are packed by whoever makes them (the pack joins its epilogue, so no tensor of codes is stored), once for all layers that read them alike. What
is left stays for LowerIntegers::

    n = bnn.conv2d(c, w, padding=1)     ->     p = bnn.pack(c, planes=2, lo=0, step=1)
                                               x = bnn.packed_pad(p, fill, padding=1)
                                               n = bnn.plane_conv2d(x, words, bias)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import bnn, is_bnn, static_shape
from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.passes.bit_planes import CodePlanes, WeightPlanes, code_planes, weight_planes
from bnncc.passes.borders import border_of
from bnncc.passes.code_range import LARGEST_SUM, code_range
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant

__all__ = ["lower_planes"]


class _Lower(ContextRewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod, ctx)
        self.bits = ctx.options.word_bits
        self.packed: dict[tuple, relax.Var] = {}

    def rewrite(self, var, value, builder: Builder):
        if not is_bnn(value, "conv2d") and not is_bnn(value, "dense"):
            return None
        weights = constant(value.args[1])
        groups = int(value.attrs.groups) if is_bnn(value, "conv2d") else 1
        codes = code_planes(code_range(self.graph.value(var).args[0], self.graph.value))
        planes = weight_planes(weights)
        reused = int(np.prod(static_shape(var)[:-1])) > 1
        bias = self._bias(codes, planes, weights)
        pairs = codes.count * len(planes.scales)
        if np.abs(bias).max() > LARGEST_SUM // 2:
            self.ctx.tell_sums(var.name, "integer arithmetic, as the counts of bit planes, joined, could leave int32", bits=False, integer=True)
            return None
        if not self.ctx.options.planes.pay(pairs, weights.shape[-1], len(weights) // groups, reused):
            self.ctx.tell_sums(var.name, f"integer arithmetic, as {codes.count} x {len(planes.scales)} bit planes would cost more", bits=False, integer=True)
            return None
        nbytes = len(planes.scales) * weights.size // 8
        how = f"{codes.count} x {len(planes.scales)} bit planes, xor + popcount"
        self.ctx.tell_sums(var.name, how, bits=True, integer=False, weight_bytes=nbytes)
        words = const(pack_reference(PackAttrs(weights.shape[-1], 1, self.bits), planes.signs.reshape(-1, *weights.shape[1:])))
        x = self._pack(value.args[0], codes, groups, builder)
        channels, scales = static_shape(value.args[0])[-1], {"input_scales": codes.scales, "weight_scales": planes.scales}
        if is_bnn(value, "dense"):
            return bnn.plane_dense(x, words, const(bias.astype(np.int32)), channels=channels, **scales)
        attrs, border = value.attrs, ()
        if any(int(p) for p in attrs.padding):
            code = int(attrs.pad_code) if codes.holds(int(attrs.pad_code)) else codes.lo
            if code != attrs.pad_code:
                border = border_of(value, weights, code - int(attrs.pad_code))
            fill = pack_reference(self._attrs(channels, codes, groups), np.full(channels, code, np.int32))
            x = builder.emit(bnn.packed_pad(x, const(fill), attrs.padding), f"{var.name}_padded")
        conv = {"strides": attrs.strides, "dilation": attrs.dilation, "groups": groups}
        return bnn.plane_conv2d(x, words, const(bias.astype(np.int32)), *border, channels=channels, **conv, **scales)

    @staticmethod
    def _bias(codes: CodePlanes, planes: WeightPlanes, weights) -> np.ndarray:
        """Return what is left of twice the sums where no bit differs (ops/plane_conv2d.py), int64 (Co,)."""
        flat = weights.reshape(len(weights), -1).astype(np.int64)
        return flat.shape[1] * sum(codes.scales) * sum(planes.scales) // 2 + codes.offset * flat.sum(1)

    def _attrs(self, channels: int, codes: CodePlanes, groups: int) -> PackAttrs:
        return PackAttrs(channels, groups, self.bits, codes.count, codes.lo, codes.step)

    def _pack(self, x, codes: CodePlanes, groups: int, builder):
        """Return the planes of a tensor of codes, the same for all layers that read them alike."""
        channels = static_shape(x)[-1]
        whole = channels // groups % self.bits == 0
        key = (x, codes, 1 if whole else groups)
        if key not in self.packed:
            made = bnn.pack(x, channels, key[2], self.bits, codes.count, codes.lo, codes.step)
            self.packed[key] = words = builder.emit(made, f"{x.name}_planes")
            self.ctx.packed[words.name] = self._attrs(channels, codes, key[2])
            if x.name in self.ctx.tensors:
                self.ctx.tensors[words.name] = self.ctx.tensors[x.name]
        return self.packed[key]


def lower_planes(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Give layers of few bits their planes and popcounts; the rest stays."""
    return _Lower(mod, ctx).run()
