"""How the channel axis is walked: blocks of whole words in a loop, each cut into vectors; tails in vectors of powers of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["PackedLayout", "Run", "moved_bits", "plan_channels", "vector_cuts"]

_BLOCK = 64


@dataclass(frozen=True)
class PackedLayout:
    """Channels of a pixel in words, every group from a word of its own."""

    channels: int
    groups: int
    bits: int

    @property
    def group_channels(self) -> int:
        """Channels of one group."""
        return self.channels // self.groups

    @property
    def group_words(self) -> int:
        """Words of one group."""
        return -(-self.group_channels // self.bits)

    @property
    def words(self) -> int:
        """Words of a pixel."""
        return self.groups * self.group_words

    def normal(self) -> PackedLayout:
        """Return the same layout without groups where they make no difference."""
        return PackedLayout(self.channels, 1, self.bits) if self.group_channels % self.bits == 0 else self

    def locate(self, channel):
        """Return word and bit of a channel (an integer or an expression)."""
        if self.groups == 1:
            return channel // self.bits, channel % self.bits
        within = channel % self.group_channels
        return channel // self.group_channels * self.group_words + within // self.bits, within % self.bits

    def word_ends(self) -> list[int]:
        """Return the channel after the last of each word."""
        return [
            g * self.group_channels + min((w + 1) * self.bits, self.group_channels) for g in range(self.groups) for w in range(self.group_words)
        ]


def moved_bits(index: np.ndarray, inputs: list[PackedLayout], out: PackedLayout) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Walk a table of channels and yield, for each output channel, word and bit it comes from, and word and bit it goes to.

    Parameters
    ----------
    index : ndarray, int32, shape (channels, 2)
        Input and channel of each output channel.
    inputs : list of PackedLayout
        Layout of each input; their words stand one after the other.
    out : PackedLayout
    """
    offset = np.cumsum([0, *(layout.words for layout in inputs)])
    for channel, (source, source_channel) in enumerate(index.tolist()):
        word, bit = inputs[source].locate(source_channel)
        yield (word + int(offset[source]), bit), out.locate(channel)


@dataclass(frozen=True)
class Run:
    """A loop of `count` blocks of `size` channels from channel `start` on, each cut the same: pairs of offset and lanes."""

    start: int
    count: int
    size: int
    cuts: tuple[tuple[int, int], ...]


def vector_cuts(bounds: list[int], lanes: int) -> tuple[tuple[int, int], ...]:
    """Cut ``[0, bounds[-1])`` into vectors of at most `lanes`, a power of two each, none across a bound."""
    cuts, at = [], 0
    for bound in bounds:
        while at < bound:
            width = lanes
            while width > bound - at:
                width //= 2
            cuts.append((at, width))
            at += width
    return tuple(cuts)


def plan_channels(channels: int, layouts: list[PackedLayout], lanes: int, periods: list[int] = ()) -> list[Run]:
    """Return the runs that cover `channels`, such that no vector crosses a word of any of `layouts` or a multiple of any of `periods`, and no word crosses a
    block."""
    if any(period % _BLOCK for period in periods):
        ends = (end for period in periods for end in range(period, channels, period))
        bounds = sorted({channels, *ends, *(end for layout in layouts for end in layout.word_ends())})
        return [Run(0, 1, channels, vector_cuts(bounds, lanes))]
    layouts = [layout.normal() for layout in layouts]
    grouped = {layout for layout in layouts if layout.groups > 1}
    if not grouped:
        block = max([_BLOCK, lanes, *(layout.bits for layout in layouts)])
        step = min([lanes, *(layout.bits for layout in layouts)])
        whole, rest = divmod(channels, block)
        runs = [Run(0, whole, block, vector_cuts([block], step))] if whole else []
        if rest:
            bounds = sorted({rest, *(end for layout in layouts for end in layout.word_ends() if whole * block < end)})
            ends = [end - whole * block for end in bounds if end > whole * block] if layouts else [rest]
            runs.append(Run(whole * block, 1, rest, vector_cuts(sorted({min(end, rest) for end in ends} | {rest}), step)))
        return runs
    if len({(layout.channels, layout.groups) for layout in grouped}) == 1 and grouped == set(layouts):
        size = next(iter(grouped)).group_channels
        bounds = sorted({end for layout in grouped for end in layout.word_ends() if end <= size})
        return [Run(0, channels // size, size, vector_cuts(bounds, lanes))]
    bounds = sorted({channels, *(end for layout in layouts for end in layout.word_ends())})
    return [Run(0, 1, channels, vector_cuts(bounds, lanes))]
