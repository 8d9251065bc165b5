"""A maximum behind packing, on bits, as words are made: a group stores the maxima of its words, and the tensor in between is nowhere in memory.

A maximum of bits is an AND, a minimum an OR, and neither minds how often a word takes part, nor in which order words come. So the outputs start from all ones
(or zeros), and every word is joined to the one of its window, as it is made. Where windows do not overlap there is one at most.
"""

from __future__ import annotations

import contextlib

from tvm import relax, tirx

from bnncc.ops import is_bnn
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.statements import Statements

__all__ = ["PooledWords", "pools_as_made"]


def pools_as_made(call: relax.Call) -> bool:
    """Tell whether `call` is a maximum on words whose windows do not overlap."""
    if not is_bnn(call, "packed_max_pool2d"):
        return False
    (ky, kx), (sy, sx) = ((int(v) for v in pair) for pair in (call.attrs.pool_size, call.attrs.strides))
    return sy >= ky and sx >= kx and all(int(d) == 1 for d in call.attrs.dilation)


class PooledWords:
    """The output of a group that ends with a maximum on words.

    Parameters
    ----------
    body : Statements
    pool : Tensor
        ``bnn.packed_max_pool2d``.
    stored, flip : Buffer
        Of its result, and of the words that say where the minimum is wanted.
    """

    def __init__(self, body: Statements, pool: Tensor, stored, flip):
        self.body, self.pool, self.stored, self.flip = body, pool, stored, flip

    def clear(self) -> None:
        """Fill the output with what changes no word that is joined to it."""
        body, words = self.body, self.pool.shape[-1]
        with body.loop(self.pool.size // words, "pixel") as pixel, body.loop(words, "word") as word:
            body.store(self.stored, pixel * words + word, tirx.bitwise_not(body.load(self.flip, word)))

    def store(self, index: tuple, value) -> None:
        """Join a word of the tensor that is pooled; `index` is (n, y, x, word)."""
        body, attrs, source = self.body, self.pool.attrs, self.pool.args[0].shape
        n, *place, word = index
        window, inside = [], []
        for axis, at in enumerate(place):
            size, stride, before = int(attrs.pool_size[axis]), int(attrs.strides[axis]), int(attrs.padding[axis])
            first = body.bind(tirx.truncdiv(at + before, tirx.const(stride, "int32")), "window")
            window.append(first)
            if stride > size:
                inside.append(at + before - first * stride < size)
            if (source[axis + 1] - 1 + before) // stride >= self.pool.shape[axis + 1]:
                inside.append(first < self.pool.shape[axis + 1])
        with contextlib.ExitStack() as branches:
            for condition in inside:
                branches.enter_context(body.when(condition))
            at = body.bind(linear_index(self.pool.shape, (n, *window, word)), "at")
            value, known, flipped = body.bind(value, "word"), body.load(self.stored, at), body.load(self.flip, word)
            joined = tirx.bitwise_or(tirx.bitwise_and(known, value), tirx.bitwise_and(flipped, tirx.bitwise_or(known, value)))
            body.store(self.stored, at, joined)
