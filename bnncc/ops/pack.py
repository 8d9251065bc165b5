"""``bnn.pack`` and ``bnn.unpack``: channels of -1 and +1 to and from words.

Bit j of word k of a group holds channel ``k * word_bits + j`` of that group; bit 1 means -1; tail bits of a group's last word are 0.
With `groups` > 1 every group starts a word of its own, which is what a grouped convolution reads.

Codes of -1, 0 and +1 (what a plain Sign leaves) take two planes of words, one behind the other: bit 1 of the first means "below 0", of the second "not above
0". Each plane is a tensor of signs by itself, p and q, and the code is (p + q) / 2.

Codes of k bits, ``lo + step * v``, take k planes: bit 1 of plane i means that binary digit i of v is 0. With signs s_i the code is
``lo + step * sum_i 2**i (1 + s_i) / 2``, and signs are the case lo = -1, step = 2, k = 1.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm_ffi.dataclasses import py_class

from bnncc.ops.registry import define_op, dtype_of, require, static_shape

__all__ = ["PackAttrs", "pack_reference", "unpack_reference", "words_per_group", "tail_mask"]


@py_class("bnncc.PackAttrs", structural_eq="tree", frozen=True)
class PackAttrs(tvm.ir.Attrs):
    """Channels in all, groups, bits a word, and planes; `step`, a power of two, is 0 for signs and what a plain Sign leaves."""

    channels: int
    groups: int
    word_bits: int
    planes: int = 1
    lo: int = -1
    step: int = 0

    @property
    def codes(self) -> tuple[int, ...]:
        """What the planes can say, ascending."""
        if self.step:
            return tuple(self.lo + int(self.step) * v for v in range(1 << self.planes))
        return (-1, 1) if self.planes == 1 else (-1, 0, 1)


def words_per_group(channels: int, groups: int, word_bits: int) -> int:
    """Return how many words the channels of one group fill."""
    return -(-(channels // groups) // word_bits)


def tail_mask(channels: int, groups: int, word_bits: int) -> np.ndarray:
    """Return the words that have bit 1 where a channel is, shape (groups * words_per_group,)."""
    attrs = PackAttrs(channels, groups, word_bits)
    return pack_reference(attrs, -np.ones(channels, np.int8))


def pack_reference(attrs, x: np.ndarray) -> np.ndarray:
    """Pack int8 or uint8 codes of shape (..., channels) into words of shape (..., planes * groups * words_per_group)."""
    if attrs.step:
        digits = (x.astype(np.int32) - attrs.lo) // attrs.step
        return np.concatenate([_pack_plane(attrs, (digits >> plane & 1) == 0) for plane in range(attrs.planes)], axis=-1)
    return np.concatenate([_pack_plane(attrs, x < plane) for plane in range(attrs.planes)], axis=-1)


def _pack_plane(attrs, bits_of: np.ndarray) -> np.ndarray:
    x = bits_of
    g, bits = attrs.groups, attrs.word_bits
    words = words_per_group(attrs.channels, g, bits)
    flat = x.reshape(*x.shape[:-1], g, attrs.channels // g)
    flat = np.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, words * bits - flat.shape[-1])])
    packed = np.packbits(flat, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view(f"<u{bits // 8}").reshape(*x.shape[:-1], g * words)


def unpack_reference(attrs, words: np.ndarray) -> np.ndarray:
    """Return the codes, shape (..., channels), of packed words: int8, int32 where there is a step."""
    if attrs.step:
        one = PackAttrs(attrs.channels, attrs.groups, attrs.word_bits)
        digits = [(1 + unpack_reference(one, plane).astype(np.int32)) // 2 << i for i, plane in enumerate(np.split(words, attrs.planes, axis=-1))]
        return attrs.lo + attrs.step * sum(digits)
    if attrs.planes == 2:
        one = PackAttrs(attrs.channels, attrs.groups, attrs.word_bits)
        p, q = (unpack_reference(one, plane) for plane in np.split(words, 2, axis=-1))
        return ((p + q) // 2).astype(np.int8)
    g = attrs.groups
    grouped = np.ascontiguousarray(words).reshape(*words.shape[:-1], g, -1)
    bits = np.unpackbits(grouped.view(np.uint8), axis=-1, bitorder="little")[..., : attrs.channels // g]
    return np.where(bits, -1, 1).astype(np.int8).reshape(*words.shape[:-1], attrs.channels)


def _infer_pack(call: relax.Call) -> relax.Type:
    (x,) = call.args
    a = call.attrs
    shape = static_shape(x)
    require(dtype_of(x) == "int8" or a.step and dtype_of(x) == "uint8", "pack: codes must be int8, or uint8 of several bits")
    if a.step:
        require(1 <= a.planes <= 8 and a.step & (a.step - 1) == 0, f"pack: {a.planes} planes of step {a.step}; 1 to 8 planes and a power of two are known")
    else:
        require(a.planes in (1, 2), f"pack: {a.planes} planes; -1 and +1 take one, -1, 0 and +1 two")
    require(shape[-1] == a.channels and a.channels % a.groups == 0, f"pack: {shape} does not hold {a.channels} channels in {a.groups} groups")
    return relax.TensorType((*shape[:-1], a.planes * a.groups * words_per_group(a.channels, a.groups, a.word_bits)), f"uint{a.word_bits}")


def _infer_unpack(call: relax.Call) -> relax.Type:
    (x,) = call.args
    a = call.attrs
    shape = static_shape(x)
    require(dtype_of(x) == f"uint{a.word_bits}", f"unpack: words of {a.word_bits} bits expected, found {dtype_of(x)}")
    require(shape[-1] == a.planes * a.groups * words_per_group(a.channels, a.groups, a.word_bits), f"unpack: {shape} does not hold {a.channels} channels")
    return relax.TensorType((*shape[:-1], a.channels), "int8")


def _build_pack(op):
    return lambda x, channels, groups=1, word_bits=64, planes=1, lo=-1, step=0: relax.Call(op, [x], PackAttrs(channels, groups, word_bits, planes, lo, step))


define_op("pack", _build_pack, _infer_pack, pack_reference)
define_op("unpack", _build_pack, _infer_unpack, unpack_reference)
