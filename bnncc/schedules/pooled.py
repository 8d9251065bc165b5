"""A maximum behind packing, on bits, as words are made: a group stores the maxima of its words, and the tensor in between is nowhere in memory.

A maximum of bits is an AND, a minimum an OR, and neither minds how often a word takes part, nor in which order words come. So the outputs start from all ones
(or zeros), and every word is joined to those of its windows, as it is made. Where windows do not overlap there is one at most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tvm import relax, tirx

from bnncc.ops import is_bnn
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.statements import Statements

__all__ = ["PooledWords", "pools_as_made"]


def pools_as_made(call: relax.Call) -> bool:
    """Tell whether `call` is a maximum on words, of windows without gaps."""
    return is_bnn(call, "packed_max_pool2d") and all(int(d) == 1 for d in call.attrs.dilation)


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
        body, (n, y, x, word) = self.body, index
        value, flipped = body.bind(value, "word"), body.bind(body.load(self.flip, word), "flip")
        with self._windows(0, y) as row, self._windows(1, x) as column:
            at = body.bind(linear_index(self.pool.shape, (n, row, column, word)), "at")
            known = body.load(self.stored, at)
            joined = tirx.bitwise_or(tirx.bitwise_and(known, value), tirx.bitwise_and(flipped, tirx.bitwise_or(known, value)))
            body.store(self.stored, at, joined)

    @contextlib.contextmanager
    def _windows(self, axis: int, at) -> Iterator:
        """Open what is done for each window that place `at` of an axis is in, and yield its number."""
        body, attrs = self.body, self.pool.attrs
        source, count = self.pool.args[0].shape[axis + 1], self.pool.shape[axis + 1]
        size, stride, before = int(attrs.pool_size[axis]), int(attrs.strides[axis]), int(attrs.padding[axis])
        place, wide = at + before, tirx.const(stride, "int32")
        last = body.bind(tirx.truncdiv(place, wide), "window")
        ends = (source - 1 + before) // stride >= count  # whether windows that would begin further on are left out
        if size > stride:
            first = body.bind(tirx.truncdiv(tirx.max(place - (size - stride), 0), wide), "window")
            end = body.bind(tirx.min(last + 1, count) if ends else last + 1, "end")
            with body.loop(end - first, "w", start=first) as window:
                yield window
            return
        with contextlib.ExitStack() as branches:
            if stride > size:
                branches.enter_context(body.when(place - last * stride < size))
            if ends:
                branches.enter_context(body.when(last < count))
            yield last
