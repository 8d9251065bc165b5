"""What the quantizer domains' operators mean, written down in NumPy from their definitions: the expected values of the tests."""

from __future__ import annotations

import numpy as np

__all__ = ["quant", "trunc", "multi_threshold", "fake_quantize", "ROUNDINGS"]


def _away_from_zero(x: np.ndarray) -> np.ndarray:
    return np.copysign(np.ceil(np.abs(x)), x)


ROUNDINGS = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": _away_from_zero,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda x: np.trunc(x + np.copysign(np.float32(0.5), x)),
    "HALF_DOWN": lambda x: _away_from_zero(np.where(np.abs(x) > 0.5, x - np.copysign(np.float32(0.5), x), 0)),
}


def quant(x: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: float, signed: int, narrow: int, rounding: str) -> np.ndarray:
    """Quant: clamp to the integers of ``bits`` bits, round, scale back; one signed bit is -1 or +1."""
    level = x / scale + zero
    if bits == 1 and signed:
        level = np.where(level >= 0, np.float32(1), np.float32(-1))
    else:
        least = -(2 ** (bits - 1)) + narrow if signed else 0
        most = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        level = ROUNDINGS[rounding](np.clip(level, np.float32(least), np.float32(most)))
    return (level - zero) * scale


def trunc(x: np.ndarray, scale: np.float32, zero: np.float32, dropped: int, rounding: str) -> np.ndarray:
    """Trunc, version 1: drop low bits of the integers behind ``x``."""
    return (ROUNDINGS[rounding](np.rint(x / scale + zero) / np.float32(2.0**dropped)) - zero) * scale


def multi_threshold(x: np.ndarray, thresholds: np.ndarray, axis: int, scale: float, bias: float) -> np.ndarray:
    """MultiThreshold: how many of its channel's thresholds an element reaches."""
    moved = np.moveaxis(x, axis, -1)
    count = sum((moved >= thresholds[:, i]).astype(np.float32) for i in range(thresholds.shape[1]))
    return np.moveaxis(count, -1, axis) * np.float32(scale) + np.float32(bias)


def fake_quantize(x: np.ndarray, low: np.ndarray, high: np.ndarray, out_low: np.ndarray, out_high: np.ndarray, levels: int) -> np.ndarray:
    """FakeQuantize as OpenVINO's operation set defines it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.float32(levels - 1)
        inner = np.rint((x - low) / (high - low) * steps) / steps * (out_high - out_low) + out_low
    return np.where(x <= np.minimum(low, high), out_low, np.where(x > np.maximum(low, high), out_high, inner)).astype(np.float32)
