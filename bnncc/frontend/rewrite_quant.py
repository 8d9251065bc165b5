"""Quant, BipolarQuant and Trunc (QONNX and Brevitas), and OpenVINO's FakeQuantize, in standard operators.

The arithmetic and its order are those of the defining implementations, so that halves round the same way:
qonnx 1.0 ``custom_op/general`` and OpenVINO's operation set 1.
"""

from __future__ import annotations

import numpy as np

from bnncc.frontend.rewriter import Rewriter, rewrites

_ROUNDINGS = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "ROUND_TO_ZERO", "HALF_UP", "HALF_DOWN")
# Up to here every integer, and every sum of one and a half, is exact in float32.
_MOST_BITS = 22


@rewrites("BipolarQuant", inputs=2)
def rewrite_bipolar_quant(r: Rewriter) -> None:
    """``where(x >= 0, 1, -1) * scale``."""
    x = _bipolar(r, r.node.input[0])
    r.finish(x if r.is_scalar(1, 1.0) else r.emit("Mul", x, r.node.input[1]))


@rewrites("Quant", "IntQuant", inputs=4)
def rewrite_quant(r: Rewriter) -> None:
    """``(round(clip(x / scale + zero point)) - zero point) * scale``; 1 bit signed is bipolar."""
    x, scale, zero_point = r.node.input[:3]
    bits = r.scalar(3, "bit width")
    signed, narrow = r.attributes.get("signed", 1), r.attributes.get("narrow", 1)
    plain, centred = r.is_scalar(1, 1.0), r.is_scalar(2, 0.0)
    x = x if plain else r.emit("Div", x, scale)
    x = x if centred else r.emit("Add", x, zero_point)
    if bits == 1 and signed:
        x = _bipolar(r, x)
    else:
        x = _to_integers(r, x, bits, signed, narrow)
    x = x if centred else r.emit("Sub", x, zero_point)
    r.finish(x if plain else r.emit("Mul", x, scale))


@rewrites("Trunc", inputs=5)
def rewrite_trunc(r: Rewriter) -> None:
    """Drop low bits of an already quantized tensor; five inputs are version 1 of the operator, six version 2."""
    x, scale, zero_point = r.node.input[:3]
    x = x if r.is_scalar(1, 1.0) else r.emit("Div", x, scale)
    x = x if r.is_scalar(2, 0.0) else r.emit("Add", x, zero_point)
    x = r.round_half_even(x)
    if len(r.node.input) < 6:
        shift = 2.0 ** (r.scalar(3, "input bit width") - r.scalar(4, "output bit width"))
        x = _round(r, r.emit("Div", x, r.weight(shift, "shift")), r.attributes.get("rounding_mode", "FLOOR"))
        x = x if r.is_scalar(2, 0.0) else r.emit("Sub", x, zero_point)
        r.finish(x if r.is_scalar(1, 1.0) else r.emit("Mul", x, scale))
        return
    shift = 2.0 ** np.round(np.log2(r.scalar(4, "output scale") / r.scalar(1, "scale")))
    x = r.emit("Div", x, r.weight(float(shift), "shift"))
    x = _to_integers(r, x, r.scalar(5, "output bit width"), r.attributes.get("signed", 1), r.attributes.get("narrow", 0), default="FLOOR")
    if not r.is_scalar(2, 0.0):
        x = r.emit("Sub", x, r.weight(float(np.float32(r.scalar(2, "zero point") / shift)), "zero"))
    r.finish(r.emit("Mul", x, r.node.input[4]))


@rewrites("FakeQuantize", inputs=5)
def rewrite_fake_quantize(r: Rewriter) -> None:
    """``ol`` up to the lower input bound, ``oh`` above the upper one, between them ``levels`` equal steps, halves to even."""
    x, low, high, out_low, out_high = r.node.input[:5]
    levels = int(r.attributes.get("levels", 0))
    if levels < 2:
        raise r.unsupported(f"it has levels={levels}; 2 or more are supported.")
    known_low, known_high = r.maybe_constant(1), r.maybe_constant(2)
    if levels == 2 and known_low is not None and known_high is not None and np.array_equal(known_low, known_high):
        r.finish(r.emit("Where", r.emit("Greater", x, high), out_high, out_low))
        return
    steps = r.weight(float(levels - 1), "steps")
    x_steps = r.emit("Mul", r.emit("Div", r.emit("Sub", x, low), r.emit("Sub", high, low)), steps)
    level = r.round_half_even(x_steps)
    inner = r.emit("Add", r.emit("Mul", r.emit("Div", level, steps), r.emit("Sub", out_high, out_low)), out_low)
    below = r.emit("Not", r.emit("Greater", x, r.emit("Min", low, high)))
    above = r.emit("Greater", x, r.emit("Max", low, high))
    r.finish(r.emit("Where", below, out_low, r.emit("Where", above, out_high, inner)))


def _bipolar(r: Rewriter, x: str) -> str:
    one, minus_one = r.weight(1.0, "one"), r.weight(-1.0, "minus_one")
    if r.opset >= 12:
        return r.emit("Where", r.emit("GreaterOrEqual", x, r.weight(0.0, "zero")), one, minus_one)
    return r.emit("Where", r.emit("Less", x, r.weight(0.0, "zero")), minus_one, one)


def _to_integers(r: Rewriter, x: str, bits: float, signed: int, narrow: int, default: str = "ROUND") -> str:
    if not 0 < bits <= _MOST_BITS:
        raise r.unsupported(f"its bit width is {bits:g}; more than 0 and at most {_MOST_BITS} bits are supported.")
    if signed:
        low, high = -(2.0 ** (bits - 1)) + bool(narrow), 2.0 ** (bits - 1) - 1
    else:
        low, high = 0.0, 2.0**bits - 1 - bool(narrow)
    return _round(r, r.clip(x, low, high), r.attributes.get("rounding_mode", default))


def _round(r: Rewriter, x: str, mode: str) -> str:
    mode = mode.upper()
    if mode not in _ROUNDINGS:
        raise r.unsupported(f"its rounding_mode is {mode!r}; supported are {', '.join(_ROUNDINGS)}. Export the model with one of those.")
    if mode in ("ROUND", "HALF_EVEN"):
        return r.round_half_even(x)
    if mode in ("CEIL", "FLOOR"):
        return r.emit(mode.capitalize(), x)
    magnitude = r.emit("Abs", x)
    if mode == "UP":
        magnitude = r.emit("Ceil", magnitude)
    elif mode in ("DOWN", "ROUND_TO_ZERO"):
        magnitude = r.emit("Floor", magnitude)
    elif mode == "HALF_UP":
        magnitude = r.emit("Floor", r.emit("Add", magnitude, r.weight(0.5, "half")))
    else:
        magnitude = r.emit("Ceil", r.emit("Sub", magnitude, r.weight(0.5, "half")))
    return r.emit("Mul", r.emit("Sign", x), magnitude)
