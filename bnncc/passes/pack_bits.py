"""PackBits: two-valued code tensors that binary layers read become words; graph algebra ends here, layout and packing happen only here.

Layers of codes or weights of more than one bit, and what only they read, are left to LowerIntegers.

Each packed tensor keeps how its words hold its channels (`_Words`): all channels in a row, or each group starting a word of its own, as a grouped convolution
reads it and as a flattened image falls out of memory for free (its pixels are the groups of a dense layer's weights). What a plain Sign leaves at 0 is kept
exactly: codes of -1, 0, +1 take two planes of words (ops/pack.py), and all movement of words moves both::

    c = bnn.quantize(x, thresholds, flip)          q = bnn.quantize(x, thresholds, flip)
    n = bnn.conv2d(c, signs, padding=1)     ->     c = bnn.pack(q)
                                                   p = bnn.packed_pad(c, zeros, padding=1)
                                                   n = bnn.packed_conv2d(p, words, border, row_class, col_class)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Tuple
from tvm.relax import op

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.ops.logic import logic_reference
from bnncc.ops.pack import PackAttrs, pack_reference, tail_mask
from bnncc.passes.borders import border_of
from bnncc.passes.chains import ELEMENTWISE
from bnncc.passes.code_range import code_range, runs_on_bits
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Builder, Rewriter, const, constant, op_name, substitute, used_vars

__all__ = ["pack_bits"]

_SPATIAL = ("relax.strided_slice", "relax.reshape", "relax.take", "relax.permute_dims", "relax.expand_dims", "relax.squeeze", "relax.image.resize2d")


@dataclass(frozen=True)
class _Words:
    channels: int
    groups: int
    planes: int = 1

    @property
    def flat(self) -> tuple[int, int]:
        """Channels and groups where planes count as channels: each plane starts a word of its own."""
        return self.channels * self.planes, self.groups * self.planes


class _Pack(Rewriter):
    def __init__(self, mod, ctx: PassContext):
        super().__init__(mod)
        self.bits = ctx.options.word_bits
        self.words: dict[relax.Var, _Words] = {}  # old variable, now packed, to how
        self.wanted = self._wanted()
        self.planes = _planes(self.graph)

    def _wanted(self) -> set[relax.Var]:
        """Return the code tensors that bits serve: what binary layers, logic, pools and pads read or make, and what those are moved from."""
        wanted: set[relax.Var] = set()
        for b in reversed(self.graph.bindings):
            if is_bnn(b.value, "conv2d") or is_bnn(b.value, "dense"):
                if self._on_bits(b.value):
                    wanted.add(b.value.args[0])
                continue
            moved = is_bnn(b.value, "max_pool2d") or is_bnn(b.value, "pad")
            if is_bnn(b.value, "logic") or moved and code_range(b.var, self.graph.value).fits_bits:
                wanted.add(b.var)
            if b.var in wanted and not is_bnn(b.value, "quantize"):
                wanted.update(v for v in used_vars(b.value) if str(v.ty.dtype) == "int8")
        for b in self.graph.bindings:  # what only moves bits moves words, whoever reads it
            read = list(used_vars(b.value))
            if op_name(b.value) in ("relax.concat", *_SPATIAL) and read and all(v in wanted for v in read):
                wanted.add(b.var)
        return wanted

    def _on_bits(self, layer) -> bool:
        return runs_on_bits(layer, code_range(layer.args[0], self.graph.value))

    def rewrite(self, var, value, builder: Builder):
        old = self.graph.value(var)
        name = op_name(old)
        if is_bnn(old, "conv2d") and self._on_bits(old):
            return self._conv2d(old, builder)
        if is_bnn(old, "dense") and self._on_bits(old):
            return self._dense(old, builder)
        if var in self.wanted:
            return self._code(var, old, value, builder, name)
        return self._on_codes(old, value, builder)

    def _on_codes(self, old, value, builder):
        """Give an operator that needs codes the unpacked ones."""
        packed = [v for v in used_vars(old) if v in self.words]
        if not packed:
            return None
        unpacked = {self.mapping[v]: self._unpack(v, builder) for v in packed}
        return substitute(value, unpacked)

    def _unpack(self, old_var, builder):
        w = self.words[old_var]
        made = builder.values.get(self.mapping[old_var])
        if is_bnn(made, "pack"):
            return made.args[0]
        codes = builder.emit(bnn.unpack(self.mapping[old_var], w.channels, w.groups, self.bits, w.planes), f"{old_var.name}_codes")
        shape = static_shape(old_var)
        return codes if static_shape(codes) == shape else builder.emit(op.reshape(codes, shape), f"{old_var.name}_codes")

    def _code(self, var, old, value, builder, name):
        if is_bnn(old, "quantize"):
            return self._pack(var, builder.emit(value, f"{var.name}_codes"))
        if is_bnn(old, "logic"):
            return self._logic(var, old, builder)
        elif is_bnn(old, "max_pool2d"):
            x, w = self._packed(old.args[0], builder)
            flip = np.tile(pack_reference(PackAttrs(w.channels, w.groups, self.bits), constant(old.args[1])), w.planes)
            self.words[var] = w
            a = old.attrs
            return bnn.packed_max_pool2d(x, const(flip), a.pool_size, a.strides, a.padding, a.dilation)
        elif is_bnn(old, "pad"):
            x, w = self._packed(old.args[0], builder, self.planes[var])
            self.words[var] = w
            return bnn.packed_pad(x, const(self._fill(w, old.attrs.code)), old.attrs.padding, old.attrs.mode)
        elif name == "relax.concat":
            made = self._concat(var, old, builder)
            if made is not None:
                return made
        elif name in _SPATIAL:
            made = self._movement(var, old, builder, name)
            if made is not None:
                return made
        plain = self._on_codes(old, value, builder)
        return self._pack(var, builder.emit(value if plain is None else plain, f"{var.name}_codes"))

    def _pack(self, var, codes):
        channels, planes = static_shape(var)[-1], self.planes[var]
        self.words[var] = _Words(channels, 1, planes)
        return bnn.pack(codes, channels, 1, self.bits, planes)

    def _logic(self, var, old, builder):
        """Compute every plane of the result as a boolean function of all planes of the inputs."""
        channels = static_shape(var)[-1]
        planes = [(i, plane) for i, a in enumerate(old.args) for plane in range(self.planes[a])]
        inputs = [self._aligned(a, 1, builder) for a in old.args]
        table = []
        for plane in range(self.planes[var]):
            for row in range(1 << len(planes)):
                signs = [[] for _ in inputs]
                for k, (i, _) in enumerate(planes):
                    signs[i].append(-1 if row >> k & 1 else 1)
                codes = [np.int8(sum(s) // len(s)) for s in signs]  # (-1, +1) stands for no code: whatever comes out is never asked for
                table.append(int(logic_reference(old.attrs, *codes) < plane))
        self.words[var] = _Words(channels, 1, self.planes[var])
        return bnn.packed_logic(*(inputs[i] for i, _ in planes), table=table, channels=channels, planes=[plane for _, plane in planes])

    def _packed(self, old_var, builder, planes: int = 1):
        """Return the words of a code tensor, packing it where it is not, and how they hold it; in two planes where that is asked for."""
        if old_var in self.words:
            x, w = self.mapping[old_var], self.words[old_var]
        else:
            channels = static_shape(old_var)[-1]
            w = _Words(channels, 1, self.planes.get(old_var, 1))
            x = builder.emit(bnn.pack(self.mapping.get(old_var, old_var), channels, 1, self.bits, w.planes), f"{old_var.name}_packed")
        if planes > w.planes:  # two-valued codes are their own second plane
            rank = len(static_shape(x))
            x = builder.emit(op.concat([x, x], axis=rank - 1), f"{old_var.name}_twice")
            w = _Words(w.channels, w.groups, planes)
        return x, w

    def _same_words(self, w: _Words, groups: int) -> bool:
        """Tell whether `w` is, word for word, what `groups` groups would be."""
        if w.groups == groups:
            return True
        return all(w.channels // g % self.bits == 0 for g in (w.groups, groups))

    def _aligned(self, old_var, groups, builder):
        """Return the words of a code tensor with this many groups, gathering channels anew where that moves bits."""
        x, w = self._packed(old_var, builder)
        if self._same_words(w, groups):
            return x
        index = np.stack([np.zeros(w.channels, np.int32), np.arange(w.channels, dtype=np.int32)], axis=1)
        return builder.emit(self._gather([x], [w], index, builder, groups), f"{old_var.name}_by_group")

    def _gather(self, inputs, words, index, builder, groups=1):
        """Gather channels by rows of (input, channel), in every plane alike; what an input gathered itself is taken from where that took it."""
        channels = np.array([w.channels for w in words])
        planes = [index + np.stack([np.zeros(len(index), int), plane * channels[index[:, 0]]], axis=1) for plane in range(words[0].planes)]
        sources: dict[tuple, int] = {}  # (tensor, channels, groups) to its number
        rows = np.concatenate(planes)
        gathered = rows.copy()
        for i, (x, w) in enumerate(zip(inputs, words, strict=True)):
            mine, made = rows[:, 0] == i, builder.values.get(x)
            if is_bnn(made, "gather_channels") and self._may_go(x, made, builder):
                known = list(zip(made.args[1:], made.attrs.in_channels, made.attrs.in_groups, strict=True))
                gathered[mine] = constant(made.args[0])[rows[mine, 1]]
            else:
                known = [(x, *w.flat)]
                gathered[mine, 0] = 0
            used = sorted(set(gathered[mine, 0].tolist()))
            number = {k: sources.setdefault(known[k], len(sources)) for k in used}
            gathered[mine, 0] = [number[k] for k in gathered[mine, 0].tolist()]
        tensors, in_channels, in_groups = zip(*sources, strict=True)
        return bnn.gather_channels(
            const(gathered.astype(np.int32)),
            *tensors,
            in_channels=[int(c) for c in in_channels],
            in_groups=[int(g) for g in in_groups],
            out_channels=len(index) * words[0].planes,
            out_groups=groups * words[0].planes,
            word_bits=self.bits,
        )

    @staticmethod
    def _may_go(x, made, builder) -> bool:
        """Tell whether reading what `x` was gathered from keeps no more memory alive than reading `x`, or not for longer."""
        return builder.bindings[-1].var.same_as(x) or sum(static_shape(source)[-1] for source in made.args[1:]) <= static_shape(x)[-1]

    def _fill(self, w: _Words, code: int) -> np.ndarray:
        """Return the words of a pixel in which every channel is `code`; 0 is +1 in the first plane and -1 in the second."""
        mask = tail_mask(w.channels, w.groups, self.bits)
        return np.concatenate([mask if code < plane else np.zeros_like(mask) for plane in range(w.planes)])

    def _concat(self, var, old, builder):
        rank = len(static_shape(var))
        parts = [self._packed(v, builder, self.planes[var]) for v in old.args[0].fields]
        inputs, words = [p[0] for p in parts], [p[1] for p in parts]
        if old.attrs.axis % rank == rank - 1:
            index = np.concatenate([np.stack([np.full(w.channels, i), np.arange(w.channels)], axis=1) for i, w in enumerate(words)])
            self.words[var] = _Words(len(index), 1, self.planes[var])
            return self._gather(inputs, words, index, builder)
        if len(set(words)) == 1:
            self.words[var] = words[0]
            return op.concat(inputs, axis=old.attrs.axis)
        return None

    def _movement(self, var, old, builder, name):
        source = old.args[0]
        shape, out = static_shape(source), static_shape(var)
        last = len(shape) - 1
        x, w = self._packed(source, builder)
        words = static_shape(x)[-1]
        if name == "relax.take":
            if old.attrs.axis is None or constant(old.args[1]) is None:
                return None
            if old.attrs.axis % len(shape) != last:
                self.words[var] = w
                return op.take(x, old.args[1], old.attrs.axis, old.attrs.mode)
            picked = constant(old.args[1]).reshape(-1)
            self.words[var] = _Words(len(picked), 1, w.planes)
            return self._gather([x], [w], np.stack([np.zeros_like(picked), picked], axis=1), builder)
        if name == "relax.strided_slice":
            return self._slice(var, old, builder, x, w, shape)
        if name == "relax.image.resize2d":
            if old.attrs.method != "nearest_neighbor" or str(old.attrs.layout) != "NHWC":
                return None
            self.words[var] = w
            return relax.Call(old.op, [x, old.args[1]], old.attrs)
        if name == "relax.permute_dims":
            if int(old.attrs.axes[-1]) % len(shape) != last:
                return None
            self.words[var] = w
            return relax.Call(old.op, [x], old.attrs)
        if out[-1] == shape[-1]:  # pixels only
            self.words[var] = w
            return op.reshape(x, (*out[:-1], words))
        pixels = int(np.prod(shape[1:-1]))
        if out == (shape[0], pixels * shape[-1]) and w.groups == 1 and (w.planes == 1 or pixels == 1):
            self.words[var] = _Words(pixels * w.channels, pixels, w.planes)
            return op.reshape(x, (shape[0], pixels * words))
        return None

    def _slice(self, var, old, builder, x, w, shape):
        rank = len(shape)
        axes, begin, end, *strides = ([int(v) for v in a] for a in (_ints(p) for p in old.args[1:]))
        strides = strides[0] if strides else [1] * len(axes)
        spans = {a % rank: (b, e, s) for a, b, e, s in zip(axes, begin, end, strides, strict=True)}
        channel = spans.pop(rank - 1, None)
        if spans:
            columns = list(zip(*spans.values(), strict=True))
            x = builder.emit(op.strided_slice(x, list(spans), *(list(c) for c in columns)), f"{var.name}_space")
        self.words[var] = w
        if channel is None:
            return x
        picked = np.arange(w.channels)[slice(*channel)]
        self.words[var] = _Words(len(picked), 1, w.planes)
        return self._gather([x], [w], np.stack([np.zeros_like(picked), picked], axis=1), builder)

    def _conv2d(self, old, builder):
        attrs, signs = old.attrs, constant(old.args[1])
        depthwise = len(signs) == static_shape(old.args[0])[-1] == attrs.groups
        x, w = self._packed(old.args[0], builder)
        if depthwise or w.groups != 1 or self._same_words(w, attrs.groups):  # any other kernel takes a group's bits out of words of all channels
            x = self._aligned(old.args[0], attrs.groups, builder)
            w = _Words(w.channels, attrs.groups, w.planes)
        weights = pack_reference(PackAttrs(signs.shape[3], 1, self.bits), signs)
        border = ()
        if any(attrs.padding):
            if attrs.pad_code == 0:  # counted as +1, and taken out again: two planes stay equal where no code is 0
                border = border_of(old, signs, 1)
            x = builder.emit(bnn.packed_pad(x, const(self._fill(w, attrs.pad_code or 1)), attrs.padding), "padded")
        return bnn.packed_conv2d(
            x,
            const(weights),
            *border,
            channels=w.channels,
            strides=attrs.strides,
            dilation=attrs.dilation,
            groups=attrs.groups,
            planes=w.planes,
            in_groups=w.groups,
        )

    def _dense(self, old, builder):
        x, w = self._packed(old.args[0], builder)
        weights = pack_reference(PackAttrs(w.channels, w.groups, self.bits), constant(old.args[1]))
        return bnn.packed_dense(x, const(weights), channels=w.channels, planes=w.planes)


def _planes(graph) -> dict[relax.Var, int]:
    """Return how many planes each code tensor takes: two where a 0 is among its codes."""
    planes: dict[relax.Var, int] = {}
    for b in graph.bindings:
        if isinstance(b.var.ty, relax.TensorType) and dtype_of(b.var) == "int8":
            if is_bnn(b.value, "quantize"):
                planes[b.var] = 3 - b.value.attrs.step
            elif is_bnn(b.value, "logic"):
                planes[b.var] = 2 if 0 in b.value.attrs.table else 1
            else:
                zero = op_name(b.value) in ELEMENTWISE or is_bnn(b.value, "pad") and b.value.attrs.mode == "constant" and b.value.attrs.code == 0
                planes[b.var] = 2 if zero else max((planes.get(v, 1) for v in used_vars(b.value)), default=1)
    return planes


def _ints(expr):
    return expr.fields if isinstance(expr, Tuple) else expr.values if hasattr(expr, "values") else expr


def pack_bits(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Lay two-valued tensors out as words and binary layers as packed kernels."""
    packing = _Pack(mod, ctx)
    out = packing.run()
    for var, words in packing.words.items():
        held = packing.mapping[var].name  # the variable's own name, unless an equal tensor stands for it
        ctx.packed[held] = PackAttrs(words.channels, words.groups, ctx.options.word_bits, words.planes)
        if var.name in ctx.tensors:
            ctx.tensors.setdefault(held, ctx.tensors[var.name])
    return out
