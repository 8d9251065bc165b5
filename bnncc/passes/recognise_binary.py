"""RecogniseBinary: convolutions and dense layers on codes whose filters are two-valued, or small integers, become ``bnn.conv2d`` and ``bnn.dense``.

Of each output channel is asked: are its weights +-c, within a relative tolerance? BatchNorm folded into the filter, scales and clip residues are
all answered by that. What is pulled out of the layer is exact: with x = s * code + o and w = c * sign,
``sum(x * w) = (sum(code * sign) + (o / s) * sum(sign)) * (s * c)``::

    x = bnn.dequantize(code, s, o)           n = bnn.conv2d(code, signs)
    y = nn.conv2d(x, W)               ->     f = astype(n, "float32")
                                             y = multiply(f, s * c)

Two-valued filters on codes of -1, 0, +1 run on packed bits. Filters that are small integers times c, and codes of more levels, make the same sums, exact as
well, in integer arithmetic or on bit planes (LowerPlanes decides), whether codes are made of the result or it stays real for a shortcut, a pool or a
classifier.

On codes that bits hold, filters of few uneven values run on bits as sums of sign planes (planes.py). With w = b + sum_p a_p * sign_p that is
``sum(x * w) = s * (sum_p a_p * sum(code * sign_p) + b * sum(code)) + o * sum(w)``, sums over the taps inside the image: padding is a code of 0, and
what the offset o adds is a constant, at the border another one than inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from bnncc.ops import bnn, dtype_of, is_bnn, static_shape
from bnncc.ops.geometry import pad_widths, windows
from bnncc.passes.bit_planes import weight_planes
from bnncc.passes.code_range import LARGEST_SUM, CodeRange, code_range
from bnncc.passes.context import LayerRow, PassContext
from bnncc.passes.fixed_point import layer_place, rounded_filters
from bnncc.passes.integers import IntegerFilters, integer_filters
from bnncc.passes.planes import filter_planes
from bnncc.passes.rewrite import Builder, ContextRewriter, const, constant, op_name

__all__ = ["recognise_binary", "two_valued", "TOLERANCE"]

TOLERANCE = 1e-3
"""Largest relative spread of a filter's magnitudes that still counts as one value (exporters that fold leave up to 1.7e-7, BatchNorm folded in float16
1e-3)."""


_PLAIN_SIGN = "input -1, 0, +1 (a plain Sign)"


@dataclass
class _Signs:
    signs: np.ndarray
    scale: np.ndarray


def two_valued(filters: np.ndarray) -> _Signs | str:
    """Split filters into signs and a scale each, or say why they are not two-valued.

    Parameters
    ----------
    filters : ndarray, float32, shape (Co, ...)

    Returns
    -------
    _Signs or str
        `signs` int8, shape of filters (a dead filter has signs +1 and scale 0); `scale` float32, shape (Co,), not negative.
    """
    flat = filters.reshape(len(filters), -1)
    size = np.abs(flat)
    middle = np.median(size, axis=1)
    spread = np.abs(size - middle[:, None]).max(axis=1, initial=0)
    dead = size.max(axis=1, initial=0) == 0
    odd = np.flatnonzero((spread > TOLERANCE * middle) & ~dead)
    if len(odd):
        channel = odd[0]
        count = len(np.unique(np.round(flat[channel] / max(size[channel].max(), 1e-30), 3)))
        kind = "ternary: -c, 0, +c" if count == 3 and (flat[channel] == 0).any() else f"{count} distinct values"
        return f"weights are not two-valued (output channel {channel}: {kind})"
    # one value where all agree, else their mean: the reference sums the spread, and its sum is what the mean gives
    scale = np.where(spread == 0, middle, size.astype(np.float64).mean(axis=1)).astype(np.float32)
    return _Signs(np.where(filters < 0, -1, 1).astype(np.int8), np.where(dead, 0, scale).astype(np.float32))


class _Recognise(ContextRewriter):
    def rewrite(self, var, value, builder: Builder):
        name = op_name(value)
        if name == "relax.nn.conv2d":
            return self._conv2d(var, value, builder)
        if name == "relax.matmul":
            return self._dense(var, value, builder)
        if name == "relax.add":
            return self._bias(var, value, builder)
        return None

    def _bias(self, var, value, builder):
        """Add a constant to sums that are scaled in double before they are rounded to float32, not after."""
        for scaled, other in (value.args, value.args[::-1]):
            made, bias = builder.values.get(scaled), constant(other)
            if bias is not None and op_name(made) == "relax.astype" and dtype_of(made.args[0]) == "float64":
                return op.astype(builder.emit(op.add(made.args[0], const(bias.astype(np.float64))), f"{var.name}_f64"), "float32")
        return None

    def _conv2d(self, var, value, builder):
        weight, attrs = constant(value.args[1]), value.attrs
        kernel = "x".join(str(k) for k in weight.shape[:2]) if weight is not None else "?"
        detail = f"{kernel}, {attrs.groups} groups" if attrs.groups > 1 else kernel
        if weight is None:
            return self._report(var, value, False, "weights are computed at run time", 0, detail)
        return self._layer(var, value, np.ascontiguousarray(weight.transpose(3, 0, 1, 2)), detail, builder)  # HWIO to OHWI

    def _dense(self, var, value, builder):
        weight = constant(value.args[1])
        if weight is None or weight.ndim != 2 or len(static_shape(value.args[0])) != 2:
            reason = "both operands are computed at run time" if weight is None else "a product of stacks of matrices"
            return self._report(var, value, False, reason, 0, "")
        return self._layer(var, value, np.ascontiguousarray(weight.T), "", builder)

    def _layer(self, var, value, filters, detail, builder):
        """Return what a layer of constant filters, output channels first, becomes, reported; None where it stays as it is."""
        codes, size = self._codes(value.args[0], builder), constant(value.args[1]).nbytes
        fixed = layer_place(self.graph, var) if self.ctx.options.fixed_layers else None
        fixed = fixed if fixed in self.ctx.options.fixed_layers else None
        if fixed and isinstance(codes, str):
            codes, filters = self._scales_rounded(value.args[0], codes, filters, builder)
        if isinstance(codes, str) and (folded := self._scales_in_filters(value.args[0], filters, builder)) is not None:
            codes, filters = folded
        several = self._summed(value.args[0], builder) if isinstance(codes, str) else []
        if several and (planes := self._planes(var, value, several, filters, detail, builder)) is not None:
            return planes
        signs = two_valued(filters)
        made = self._integers(codes, signs, filters)
        if fixed and isinstance(made, str) and not isinstance(codes, str):
            made = rounded_filters(filters, codes.range)
            self.ctx.rounded.add(fixed)
        if isinstance(codes, str):
            return self._report(var, value, False, self._why(codes, made), size, detail)
        pads = op_name(value) == "relax.nn.conv2d" and any(int(p) for p in value.attrs.padding)
        held = not pads or codes.holds(codes.zero)
        if (isinstance(made, str) or not held) and (planes := self._planes(var, value, [codes], filters, detail, builder)) is not None:
            return planes
        if isinstance(made, str):
            return self._report(var, value, False, self._why(codes, made), size, detail)
        if not held:
            bits = "bits do" if codes.range.fits_bits else "they do"
            where = "another code in each channel" if np.isnan(codes.zero) else f"{codes.zero:g} on the scale of the codes, which {bits} not hold"
            return self._report(var, value, False, f"padding with 0 is {where}", size, detail)
        pad_code = int(codes.zero) if pads else 0
        if isinstance(made, IntegerFilters):
            sums = _sums(value, codes.var, made.integers, pad_code)
            self._report(var, value, False, self._integer_kind(codes, made), 2 * made.integers.size, detail, integer=True)
            return self._scaled(var, sums, codes, _Signs(made.integers, made.scale), builder)
        self._report(var, value, True, self._kind(codes, signs), signs.signs.size // 8, detail)
        return self._scaled(var, _sums(value, codes.var, signs.signs, pad_code), codes, signs, builder)

    def _planes(self, var, value, inputs, filters, detail, builder):
        """Return the layer on a sum of codes as a sum of binary ones, reported; None where bits do not hold the codes or filters take too many values."""
        planes = filter_planes(filters) if all(c.range.fits_bits for c in inputs) else None
        if planes is None:
            return None

        def term(codes, weights, scale, name):
            acc = _sums(value, codes.var, weights, 0)
            sums = builder.emit(op.astype(builder.emit(acc, f"{var.name}_{name}"), "float32"), f"{var.name}_{name}_f32")
            return builder.emit(op.multiply(sums, const(_uniform(scale * np.float32(codes.scale)))), f"{var.name}_{name}_scaled")

        terms = [term(codes, s, a, "plane") for codes in inputs for s, a in zip(planes.signs, planes.scales, strict=True)]
        if planes.offset.any():  # one window sum serves all channels where there is one group
            groups = 1 if op_name(value) == "relax.matmul" else int(value.attrs.groups)
            ones = np.ones((1 if groups == 1 else len(filters), *filters.shape[1:]), np.int8)
            terms += [term(codes, ones, planes.offset, "window") for codes in inputs]
        offset = sum(codes.offset for codes in inputs)
        if offset:
            terms.append(const(_offset_sums(value, offset, filters)))
        self._report(var, value, True, self._planes_kind(inputs, planes), len(planes.signs) * filters.size // 8, detail)
        result = terms[0]
        for each in terms[1:-1]:
            result = builder.emit(op.add(result, each), f"{var.name}_sum")
        return op.add(result, terms[-1]) if len(terms) > 1 else result

    @staticmethod
    def _planes_kind(inputs, planes) -> str:
        few = f"weights are two-valued ({'b - a and b + a' if planes.offset.any() else '-a and +a'})"
        weights = few if len(planes.signs) == 1 else f"weights are sums of {len(planes.signs)} sign planes"
        one = "two-valued input" if inputs[0].range.levels == 2 else _PLAIN_SIGN
        return f"{one if len(inputs) == 1 else f'the input is a sum of {len(inputs)} signs'}, {weights}"

    def _summed(self, x, builder) -> list[_Codes]:
        """Return the codes that `x` is a sum of, else an empty list."""
        made = builder.values.get(x)
        if op_name(made) != "relax.add":
            return []
        found = [self._codes(a, builder) for a in made.args]
        return [] if any(isinstance(c, str) for c in found) else found

    def _scales_in_filters(self, x, filters, builder) -> tuple[_Codes, np.ndarray] | None:
        """Return codes without scales, and filters times the scale of each input channel; None where bits do not hold them, or the layer cannot run on them
        then.

        Signs that differ from channel to channel leave filters two-valued; magnitudes of few values make them sums of planes, or small integers.
        """
        made = builder.values.get(x)
        if not is_bnn(made, "dequantize") or constant(made.args[2]).any():
            return None
        scale, held = constant(made.args[1]), code_range(made.args[0], builder.values.get)
        channels = static_shape(x)[-1]
        if scale.size != channels or scale.shape[-1] != channels or not held.fits_bits:
            return None
        of_group = scale.reshape(-1, filters.shape[-1])  # one row a group, and its filters are consecutive
        folded = filters * np.repeat(of_group, len(filters) // len(of_group), axis=0).reshape(len(filters), *(1,) * (filters.ndim - 2), -1)
        if isinstance(two_valued(folded), str) and filter_planes(folded) is None and integer_filters(folded) is None:
            return None
        return _Codes(made.args[0], 1.0, 0.0, held), folded.astype(np.float32)

    def _scales_rounded(self, x, why: str, filters, builder) -> tuple[_Codes | str, np.ndarray]:
        """Return codes without scales, and filters times the scale of each input channel, to be rounded; the arguments where `x` has none of its own."""
        made = builder.values.get(x)
        scale = constant(made.args[1]) if is_bnn(made, "dequantize") else None
        if scale is None or scale.shape[-1:] != filters.shape[-1:] or not scale.all():
            return why, filters
        scale, offset = scale.reshape(-1), np.broadcast_to(constant(made.args[2]).reshape(-1), filters.shape[-1:])
        codes = _Codes(made.args[0], 1.0, offset.astype(np.float64) / scale, code_range(made.args[0], builder.values.get))
        return codes, (filters * scale).astype(np.float32)

    def _codes(self, x, builder):
        made = builder.values.get(x)
        if not is_bnn(made, "dequantize"):
            levels = self.ctx.levels.get(x.name) if isinstance(x, relax.Var) else None
            return f"the input takes {levels} levels, more than bits hold" if levels else "the input is real-valued"
        scale, offset = constant(made.args[1]), constant(made.args[2])
        held = code_range(made.args[0], builder.values.get)
        if scale.size != 1 or offset.size != 1 and held.fits_bits:
            return f"the input's {'two values differ' if held.fits_bits else 'scale differs'} from channel to channel"
        if scale == 0:
            return "the input is constant"
        return _Codes(made.args[0], float(scale.reshape(())), float(offset.reshape(())) if offset.size == 1 else offset.astype(np.float64), held)

    @staticmethod
    def _integers(codes, signs, filters) -> _Signs | IntegerFilters | str:
        """Return the signs where they and the codes fit bits, else the filters as small integers where those serve, else why not."""
        if isinstance(codes, str) or isinstance(signs, _Signs) and codes.range.fits_bits:
            return signs
        found = integer_filters(filters)
        if found is None:
            return signs if isinstance(signs, str) else "weights are no small multiples of one value"
        if isinstance(signs, str) and codes.range.fits_bits:
            uneven = filter_planes(filters)
            if uneven is not None and len(uneven.signs) < len(weight_planes(found.integers).scales):
                return signs  # -1 and 3 are one plane and an offset, as integers two
        limits = np.iinfo(dtype_of(codes.var))
        ends = (codes.range.lo, codes.range.hi) if limits.bits > 8 else (limits.min, limits.max)
        largest = max(abs(int(end)) for end in ends)
        if largest * int(np.abs(found.integers.reshape(len(filters), -1).astype(np.int64)).sum(1).max()) > LARGEST_SUM:
            return "sums of the codes by the weights as integers could leave 32 bits"
        return found

    @staticmethod
    def _bits(codes, made: IntegerFilters) -> str:
        return f"{(codes.range.levels - 1).bit_length()}-bit input, {made.bits}-bit weights"

    def _integer_kind(self, codes, made: IntegerFilters) -> str:
        return f"{self._bits(codes, made)}: integer arithmetic"

    def _scaled(self, var, acc, codes, signs, builder):
        acc = builder.emit(acc, f"{var.name}_acc")
        self.ctx.sums[acc.name] = len(self.ctx.layers) - 1
        scale, window = signs.scale * np.float64(codes.scale), None
        if np.any(codes.offset):
            inputs = signs.signs.reshape(len(signs.signs), -1, signs.signs.shape[-1]).sum(1, dtype=np.int64)
            offsets = np.reshape(codes.offset, (-1, inputs.shape[1] if np.ndim(codes.offset) else 1))  # one row a group, and its filters are consecutive
            window = (inputs * (np.repeat(offsets, len(inputs) // len(offsets), axis=0) / codes.scale)).sum(1)
        # a product of two scales has more digits than float32 holds; sums times it are rounded once, as the source's sums of its own products are, almost
        dtype = "float32" if np.all(scale == scale.astype(np.float32)) else "float64"
        real = builder.emit(op.astype(acc, dtype), f"{var.name}_acc_f{dtype[-2:]}")
        if window is not None:
            real = builder.emit(op.add(real, const(window.astype(dtype))), f"{var.name}_window")
        real = op.multiply(real, const(_uniform(scale.astype(dtype))))
        return real if dtype == "float32" else op.astype(builder.emit(real, f"{var.name}_f64"), "float32")

    @staticmethod
    def _why(codes, signs) -> str:
        if isinstance(signs, str):
            return f"{signs}; {codes}" if isinstance(codes, str) else signs
        if abs(int(signs.signs.sum(dtype=np.int64))) == signs.signs.size:
            return f"a sum over windows: all weights are equal; {codes}"
        return f"weights are two-valued, but {codes}"

    @staticmethod
    def _kind(codes, signs) -> str:
        kind = "two-valued input and weights" if codes.range.levels == 2 else f"{_PLAIN_SIGN}, two-valued weights"
        dead = int((signs.scale == 0).sum())
        return f"{kind}, {dead} dead filters" if dead else kind

    def _report(self, var, value, bits, reason, weight_bytes, detail, integer=False):
        x, w = value.args[:2]
        shape, out = static_shape(x), static_shape(var)
        macs = int(np.prod(out)) * int(np.prod(static_shape(w)[:-1]))
        node = self.ctx.nodes.get(var.name)
        name, kind, output = (node.name, node.op_type, node.output) if node else (var.name, "", self.ctx.onnx_name(var.name))
        self.ctx.sums[var.name] = len(self.ctx.layers)
        self.ctx.layers.append(LayerRow(name, kind, output, bits, reason, macs, weight_bytes, shape, out, detail, integer))
        if not bits and reason.startswith("weights are two-valued") or "levels" in reason:
            self.ctx.warn(f"{kind} {name} looks binary but stays float: {reason}.")


@dataclass
class _Codes:
    var: relax.Var
    scale: float
    offset: float | np.ndarray
    range: CodeRange

    @property
    def zero(self) -> float:
        """The code of 0, whole where float32 left it off by its own rounding only; no number where channels have codes of 0 of their own."""
        if np.ndim(self.offset):
            return np.nan
        found = (0.0 - self.offset) / self.scale
        return float(round(found)) if abs(found - round(found)) <= 2.0**-22 * abs(found) else found

    def holds(self, code: float) -> bool:
        """Tell whether `code` is one that the layer's arithmetic takes."""
        limits = np.iinfo(dtype_of(self.var))
        return code in (-1, 0, 1) if self.range.fits_bits else code == int(code) and limits.min <= code <= limits.max


def _sums(value, codes: relax.Var, weights: np.ndarray, pad_code: int) -> relax.Call:
    """Return the layer `value` on codes and integer weights."""
    if op_name(value) == "relax.matmul":
        return bnn.dense(codes, const(weights))
    attrs = value.attrs
    return bnn.conv2d(codes, const(weights), attrs.strides, tuple(int(p) for p in attrs.padding), attrs.dilation, attrs.groups, pad_code)


def _offset_sums(value, offset: float, filters: np.ndarray) -> np.ndarray:
    """Return what an input that is `offset` everywhere, 0 in the padding, adds: (Co,), or (OH, OW, Co) where the border differs from the inside."""
    if op_name(value) == "relax.matmul":
        return (filters.sum(1, dtype=np.float64) * offset).astype(np.float32)
    attrs = value.attrs
    _, height, width, _ = static_shape(value.args[0])
    inside = np.pad(np.ones((1, height, width, 1)), pad_widths(attrs.padding))
    taps = windows(inside, filters.shape[1:3], attrs.strides, attrs.dilation)[0, :, :, 0]
    sums = np.einsum("yxij,oij->yxo", taps, filters.sum(3, dtype=np.float64)) * offset
    return (sums if any(int(p) for p in attrs.padding) else sums[0, 0]).astype(np.float32)


def _uniform(array: np.ndarray) -> np.ndarray:
    return array[:1].reshape(()) if array.size and np.all(array == array[0]) else array


def recognise_binary(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Turn convolutions and dense layers on codes with filters of two values or of small integers into integer ones, and report every layer."""
    after = _Recognise(mod, ctx).run()
    for place in ctx.options.fixed_layers:
        if place not in ctx.rounded:
            ctx.warn(f"--{place}-layer fixed rounds nothing: the layer is exact on integers already, or its input is real (--input-type uint8 makes it bytes).")
    return after
