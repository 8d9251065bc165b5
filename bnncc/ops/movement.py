"""Data movement of codes and words: ``bnn.pad``, ``bnn.packed_pad`` (space) and ``bnn.gather_channels`` (channels).

Everything else that moves data without looking at channels (slices, reshapes and concatenation in space) stays a Relax operator, on codes and on
words alike. `gather_channels` covers concatenation, slices, splits, shuffles and the alignment of groups, all as one table.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.geometry import pad_widths
from bnncc.ops.pack import PackAttrs, pack_reference, unpack_reference, words_per_group
from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["PadAttrs", "PackedPadAttrs", "GatherAttrs", "pad_reference", "packed_pad_reference", "gather_channels_reference"]


@py_class("bnncc.PadAttrs", structural_eq="tree", frozen=True)
class PadAttrs(tvm.ir.Attrs):
    """`padding` is top, left, bottom, right; `mode` constant (with `code`), edge or reflect."""

    padding: tuple[int, ...]
    mode: str
    code: int


@py_class("bnncc.PackedPadAttrs", structural_eq="tree", frozen=True)
class PackedPadAttrs(tvm.ir.Attrs):
    """As PadAttrs; the word to fill with is an argument."""

    padding: tuple[int, ...]
    mode: str


@py_class("bnncc.GatherAttrs", structural_eq="tree", frozen=True)
class GatherAttrs(tvm.ir.Attrs):
    """Channels and groups of every input and of the output, and bits a word."""

    in_channels: tuple[int, ...]
    in_groups: tuple[int, ...]
    out_channels: int
    out_groups: int
    word_bits: int


def pad_reference(attrs, x: np.ndarray) -> np.ndarray:
    """Pad int8 or uint8 codes of shape (N, H, W, C) in space."""
    if attrs.mode == "constant":
        return np.pad(x, pad_widths(attrs.padding), constant_values=attrs.code)
    return np.pad(x, pad_widths(attrs.padding), mode=attrs.mode)


def packed_pad_reference(attrs, x: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Pad words of shape (N, H, W, words) in space; constant padding writes `fill`, shape (words,)."""
    padded = np.pad(x, pad_widths(attrs.padding), mode=attrs.mode)
    if attrs.mode == "constant":
        inside = np.pad(np.ones(x.shape[:3] + (1,), bool), pad_widths(attrs.padding))
        padded = np.where(inside, padded, fill)
    return padded.astype(x.dtype)


def gather_channels_reference(attrs, index: np.ndarray, *inputs: np.ndarray) -> np.ndarray:
    """Build the output channel by channel.

    Parameters
    ----------
    index : ndarray, int32, shape (out_channels, 2)
        Row c names the input and its channel that output channel c copies.
    inputs : ndarrays, uint, shape (..., words of that input)
    """
    codes = [
        unpack_reference(PackAttrs(c, g, attrs.word_bits), x) for x, c, g in zip(inputs, attrs.in_channels, attrs.in_groups, strict=True)
    ]
    start = np.cumsum([0, *attrs.in_channels])
    flat = np.concatenate(codes, axis=-1)[..., start[index[:, 0]] + index[:, 1]]
    return pack_reference(PackAttrs(attrs.out_channels, attrs.out_groups, attrs.word_bits), flat)


def _infer_pad(call: relax.Call) -> relax.Type:
    n, h, w, c = static_shape(call.args[0])
    top, left, bottom, right = call.attrs.padding
    return relax.TensorType((n, h + top + bottom, w + left + right, c), dtype_of(call.args[0]))


def _infer_gather(call: relax.Call) -> relax.Type:
    a = call.attrs
    index, *inputs = call.args
    require(static_shape(index) == (a.out_channels, 2), f"gather_channels: index {static_shape(index)} for {a.out_channels} channels")
    for x, c, g in zip(inputs, a.in_channels, a.in_groups, strict=True):
        require(static_shape(x)[-1] == g * words_per_group(c, g, a.word_bits), f"gather_channels: {static_shape(x)} does not hold {c} channels")
    words = a.out_groups * words_per_group(a.out_channels, a.out_groups, a.word_bits)
    return relax.TensorType((*static_shape(inputs[0])[:-1], words), f"uint{a.word_bits}")


def _build_gather(op):
    def gather_channels(index, *inputs, in_channels, in_groups, out_channels, out_groups=1, word_bits=64):
        return relax.Call(op, [index, *inputs], GatherAttrs(tuple(in_channels), tuple(in_groups), out_channels, out_groups, word_bits))

    return gather_channels


define_op(
    "pad",
    lambda op: lambda x, padding, mode="constant", code=0: relax.Call(op, [x], PadAttrs(tuple(padding), mode, code)),
    _infer_pad,
    pad_reference,
)
define_op(
    "packed_pad",
    lambda op: lambda x, fill, padding, mode="constant": relax.Call(op, [x, fill], PackedPadAttrs(tuple(padding), mode)),
    _infer_pad,
    packed_pad_reference,
)
define_op("gather_channels", _build_gather, _infer_gather, gather_channels_reference)
