"""``bnn.repeat_channels``: every channel `each` times in a row, and all of that `times` times; what a multi-slice sign compares with its offsets.

An epilogue evaluates it where it is read, so the repeated tensor is never stored.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["RepeatChannelsAttrs", "repeat_channels_reference", "repeated"]


@py_class("bnncc.RepeatChannelsAttrs", structural_eq="tree", frozen=True)
class RepeatChannelsAttrs(tvm.ir.Attrs):
    """Output channel i is channel ``i // each % C`` of C; there are ``C * each * times``."""

    each: int
    times: int


def repeated(index: np.ndarray, channels: int) -> tuple[int, int] | None:
    """Return (each, times) where a selection of channels, shape (n,), is such a repetition of all of them, else None."""
    if len(index) % channels:
        return None
    factor = len(index) // channels
    for each in range(1, factor + 1):
        if factor % each == 0 and np.array_equal(index, np.arange(len(index)) // each % channels):
            return each, factor // each
    return None


def repeat_channels_reference(attrs, x: np.ndarray) -> np.ndarray:
    """Repeat the last axis of x, any dtype."""
    repeats = np.repeat(x, attrs.each, axis=-1)
    return np.concatenate([repeats] * attrs.times, axis=-1)


def _infer(call: relax.Call) -> relax.Type:
    (x,) = call.args
    a = call.attrs
    require(a.each > 0 and a.times > 0, f"repeat_channels: {a.each} and {a.times} repetitions")
    *outer, channels = static_shape(x)
    return relax.TensorType((*outer, channels * a.each * a.times), dtype_of(x))


define_op(
    "repeat_channels", lambda op: lambda x, each=1, times=1: relax.Call(op, [x], RepeatChannelsAttrs(each, times)), _infer, repeat_channels_reference
)
