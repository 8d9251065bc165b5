"""``bnn.signed_sum_conv2d``: sums and differences of codes, a convolution whose weights are signs that its attributes know.

The meaning is that of ``bnn.conv2d`` with those weights. A kernel may be made of the signs themselves; the operand that says them again is for readers of
numbers and for kernels that would rather have them in memory.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.conv2d import conv2d_reference, infer_conv2d
from bnncc.ops.registry import define_op, require, static_shape

__all__ = ["SignedSumConv2dAttrs", "signs_of", "spell_signs"]


@py_class("bnncc.SignedSumConv2dAttrs", structural_eq="tree", frozen=True)
class SignedSumConv2dAttrs(tvm.ir.Attrs):
    """Those of ``bnn.conv2d``, the least and the largest code of the input, and the signs, a hexadecimal digit for four weights (`spell_signs`)."""

    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    pad_code: int
    lo: int
    hi: int
    signs: str


def spell_signs(weights: np.ndarray) -> str:
    """Return the text of weights of -1 and +1 in row-major order."""
    return np.packbits(weights.reshape(-1) < 0).tobytes().hex()


def signs_of(attrs, shape: tuple[int, ...]) -> np.ndarray:
    """Return the weights, int8 of -1 and +1, that attributes spell.

    Parameters
    ----------
    shape : tuple of int
        Of the weights, OHWI.
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(str(attrs.signs)), np.uint8))[: int(np.prod(shape))]
    return np.where(bits, -1, 1).astype(np.int8).reshape(shape)


def _infer(call: relax.Call) -> relax.Type:
    shape = static_shape(call.args[1])
    digits = -(-int(np.prod(shape)) // 8) * 2
    require(len(str(call.attrs.signs)) == digits, f"signed_sum_conv2d: {len(str(call.attrs.signs))} digits of signs; weights of shape {shape} take {digits}")
    require(call.attrs.lo <= call.attrs.hi, f"signed_sum_conv2d: codes from {call.attrs.lo} to {call.attrs.hi}")
    return infer_conv2d(call)


def _build(op):
    def signed_sum_conv2d(x, w, signs, lo, hi, strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, pad_code=0):
        attrs = SignedSumConv2dAttrs(tuple(strides), tuple(padding), tuple(dilation), groups, pad_code, lo, hi, signs)
        return relax.Call(op, [x, w], attrs)

    return signed_sum_conv2d


define_op("signed_sum_conv2d", _build, _infer, conv2d_reference)
