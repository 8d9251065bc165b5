"""RecogniseBytes: what an input of bytes stands for becomes codes, by trying all 256 of them.

Every tensor that is a function of one byte, element by element, and that something else reads, is one of these::

    f = astype(x, "float32")
    s = subtract(f, 128)             ->     y = bnn.dequantize(x, 1 / 64, -2)          a line, by channel where a mean and a deviation are: bytes are codes
    y = multiply(s, 1 / 64)

    y = sign(s)                      ->     i = astype(x, "int32");  c = bnn.quantize(i, 128, flip);  y = bnn.dequantize(c, 1, 0)      few levels

    y = multiply(round(s), 1 / 8)    ->     c = take(table, i);  y = bnn.dequantize(c, 1 / 8, 0)                        even levels: a table of 256

Where 0, with which layers pad, is no byte (127.5 is its place, say), codes are int16: ``2 * x - 255``.

Layers sum codes exactly and multiply afterwards. A level may be off its line by what the source's own arithmetic rounds.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm.relax import op

from bnncc.ops import bnn, dtype_of
from bnncc.passes.chains import ChainRewriter
from bnncc.passes.context import PassContext
from bnncc.passes.integer_steps import NEVER
from bnncc.passes.integers import Levels, even_levels
from bnncc.passes.recognise_quantize import Quantizer, channel_form, feeds_layer, level_quantizer, pads, quantizer_of
from bnncc.passes.rewrite import Builder, const
from bnncc.passes.steps import Steps

__all__ = ["recognise_bytes", "byte_line"]

_BYTES = np.arange(256)

_ROUNDINGS = 4
"""Units in the last place of the largest level that the source's arithmetic may leave a level off the line."""

_LARGEST_MULTIPLE = 64
"""Bytes times this, less their zero, are int16."""

_ZERO_TOLERANCE = 2.0**-20
"""Of a zero: how far float32 arithmetic leaves it off the fraction that was meant (127.5)."""


def byte_line(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return scale and offset, float32, of the line ``byte * scale + offset`` that the values lie on; None where they lie on none.

    Parameters
    ----------
    values : ndarray, float32, shape (256, ...)
        What each byte stands for.
    """
    exact = values.astype(np.float64)
    scale = ((exact[-1] - exact[0]) / 255).astype(np.float32)
    if not np.isfinite(exact).all() or np.any(scale == 0):
        return None
    zero = np.abs(exact) == 0  # the byte of 0 keeps its place, so that padding is a byte
    anchor = np.where(zero.any(0), np.argmax(zero, axis=0), 0)
    offset = np.where(zero.any(0), -anchor * scale.astype(np.float64), exact[0]).astype(np.float32)
    steps = _BYTES.reshape(-1, *(1,) * scale.ndim)
    error = np.abs(steps * scale.astype(np.float64) + offset - exact)
    allowed = _ROUNDINGS * np.spacing(np.abs(values).max(0)).astype(np.float64)
    return (scale, offset) if np.all(error <= allowed) else None


def _filled(values: np.ndarray) -> Levels | None:
    """Return the even levels among which those of the values are, not all of them taken (a rounding of 256 bytes leaves one out), or None."""
    levels = np.unique(values).astype(np.float64)
    count = (levels[-1] - levels[0]) / np.diff(levels).min(initial=np.inf)
    if not np.isfinite(count) or not 1 <= round(count) < 256:
        return None
    every = np.linspace(levels[0], levels[-1], round(count) + 1)
    apart = np.abs(every[np.searchsorted((every[1:] + every[:-1]) / 2, levels)] - levels)
    return even_levels(every) if apart.max() <= _ROUNDINGS * np.spacing(np.abs(values).max()) else None


def _whole(q: Quantizer) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds between bytes as integers, and the directions."""
    flip = channel_form(q.flip)
    limits = [np.where(flip > 0, np.ceil(t), np.floor(t)) for t in map(channel_form, q.thresholds)]
    return np.stack([np.clip(t, -NEVER, NEVER) for t in limits]).astype(np.int32), flip


class _Recognise(ChainRewriter):
    def rewrite(self, var, value, builder: Builder):
        root = self.chains.root[var]
        if root.same_as(var) or dtype_of(root) != "uint8" or dtype_of(var) not in ("float32", "bool") or not self._is_read(var, root):
            return None
        points = _BYTES.astype(np.uint8).reshape(-1, *(1,) * len(self.chains.constant_shape(var, root)))
        values = np.broadcast_to(self.chains.evaluate(var, {root: points}), (256, *self.chains.constant_shape(var, root))).astype(np.float32)
        x = self.mapping.get(root, root)
        self.ctx.unsigned_codes.add(x.name)
        steps = Steps(np.broadcast_to(points[1:].astype(np.float32), values[1:].shape), values)
        quantizer = quantizer_of(steps)
        levels = even_levels(values) if quantizer is None and feeds_layer(self.graph, var) else None
        if levels is not None:
            quantizer = level_quantizer(steps, levels)
        if quantizer is not None:
            return self._thresholds(var, x, quantizer, builder)
        if dtype_of(var) == "bool":
            return None
        if (line := byte_line(values)) is not None:
            scale, offset = (channel_form(a) if np.any(a != a.flat[0]) else a.reshape(-1)[0] for a in line)
            if (wide := self._centred(var, x, scale, offset, builder)) is not None:
                return wide
            return bnn.dequantize(x, const(scale), const(offset))
        levels = levels or _filled(values) if feeds_layer(self.graph, var) else None
        if levels is not None and values.size == 256:
            return self._table(var, x, values.reshape(256), levels, builder)
        self.ctx.levels[var.name] = len(np.unique(values))
        return None

    def _is_read(self, var, root) -> bool:
        """Tell whether anything reads the tensor but what is a function of the same byte."""
        return self.graph.is_output(var) or any(not self.chains.root[user].same_as(root) for user in self.graph.users(var))

    def _thresholds(self, var, x, q: Quantizer, builder):
        thresholds, flip = _whole(q)
        whole = builder.emit(op.astype(x, "int32"), f"{var.name}_whole")
        code = builder.emit(bnn.quantize(whole, const(thresholds), const(flip), q.lo, q.step), f"{var.name}_code")
        scale, offset = channel_form(q.scale), channel_form(q.offset)
        self._view(var, code, scale, offset)
        real = bnn.dequantize(code, const(scale), const(offset))
        return real if dtype_of(var) == "float32" else op.greater(builder.emit(real, f"{var.name}_f32"), const(np.float32(0.5)))

    def _centred(self, var, x, scale, offset, builder):
        """Return codes of which 0 stands for 0, int16, where bytes do not say 0 and padding needs it, or channels have zeros of their own; else None."""
        if scale.ndim or not offset.ndim and not pads(self.graph, var):
            return None
        zero = -offset.astype(np.float64) / scale
        multiples = np.arange(1, _LARGEST_MULTIPLE + 1).reshape(-1, *(1,) * zero.ndim) * zero
        near = np.abs(multiples - np.rint(multiples)) <= _ZERO_TOLERANCE * np.abs(multiples)
        fits = near.reshape(len(near), -1).all(1) & (np.abs(multiples).reshape(len(near), -1).max(1) + 255 * _LARGEST_MULTIPLE < 1 << 15)
        if not fits.any() or fits[0] and not offset.ndim:
            return None
        times = int(np.argmax(fits)) + 1
        code = builder.emit(op.astype(x, "int16"), f"{var.name}_wide")
        if times > 1:
            code = builder.emit(op.multiply(code, const(np.int16(times))), f"{var.name}_times")
        code = builder.emit(op.subtract(code, const(np.rint(multiples[times - 1]).astype(np.int16))), f"{var.name}_centred")
        return bnn.dequantize(code, const(np.float32(scale / times)), const(np.float32(0)))

    def _table(self, var, x, values, levels, builder):
        nearest = np.searchsorted((levels.values[1:] + levels.values[:-1]) / 2, values)
        codes = levels.codes[nearest].astype(levels.dtype)
        whole = builder.emit(op.astype(x, "int32"), f"{var.name}_whole")
        code = builder.emit(op.take(const(codes), whole, axis=0, mode="clip"), f"{var.name}_code")
        if levels.dtype == "uint8":
            self.ctx.unsigned_codes.add(code.name)
        self._view(var, code, levels.scale, levels.offset)
        return bnn.dequantize(code, const(levels.scale), const(levels.offset))

    def _view(self, var, code, scale, offset) -> None:
        view = self.ctx.tensors.get(var.name)
        if view is not None and np.ndim(scale) == 0 and np.ndim(offset) == 0:
            self.ctx.tensors[code.name] = view.rescaled(float(scale), float(offset))


def recognise_bytes(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Replace elementwise functions of an input of bytes by codes and what they stand for."""
    return _Recognise(mod, ctx).run()
