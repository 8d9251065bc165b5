"""What the formulations of a binary contraction have in common, so that one can be chosen per layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from bnncc.schedules.register_tile import Contraction, arrange_weights, fill_tile

__all__ = ["BinaryShape", "Formulation", "WholeKernel", "register_tiled"]

_TILE_BYTES = 16 * 1024


@dataclass(frozen=True)
class BinaryShape:
    """A binary contraction, before a formulation is chosen.

    Parameters
    ----------
    word : str
        Element type of the words, ``uint64``.
    groups, outputs, inputs : int
        Groups, and the output and input channels of one group.
    taps : tuple of int
        Kernel height and width.
    pixels : int
        Outputs a row of the image has; rows of activations for a dense layer.
    planes : int or expression
        How many planes of the input are summed.
    answers : bool
        Whether all that is asked for is a bit of every count, see `limit_planes.answers_alone`.
    bits : bool
        Whether it is bits of every count, as many as there are limits, see `limit_planes.bits_alone`.
    strides, dilation : tuple of int
    rows_each : int
        Rows of a tile that an image row has: planes whose sums are kept apart follow one another.
    rows : int
        Rows of the image that the pixels stand in.
    """

    word: str
    groups: int
    outputs: int
    inputs: int
    taps: tuple[int, int]
    pixels: int
    planes: object
    answers: bool = False
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    rows_each: int = 1
    rows: int = 1
    bits: bool = False

    @property
    def word_bits(self) -> int:
        """Bits of a word."""
        return int(self.word[4:])

    @property
    def words(self) -> int:
        """Words of a tap in one group."""
        return -(-self.inputs // self.word_bits)

    def contraction(self, **given) -> Contraction:
        """Return the contraction of this shape whose steps are words; `given` are the parameters that it leaves open, and those that are others."""
        known = {"groups": self.groups, "group_outputs": self.outputs, "taps": self.taps, "depth": self.words, "planes": self.planes}
        return Contraction(**{**known, **given})


@dataclass(frozen=True)
class Formulation:
    """How a binary contraction is computed: the tile receives the count of differing bits.

    Parameters
    ----------
    contraction : Contraction
    widest : int
        Pixels of a register tile at most; of a tile where `pixel_lanes` is set.
    arrange : callable
        Packed weights of shape (outputs of all groups, KH, KW, words) to the one-dimensional array that the kernel reads.
    fill : callable
        Of the signature of `register_tile.fill_tile`; its ``load_x`` gives words, several neighbours as a vector where a last argument says how many.
    tile_bytes : int
        How large the tile may become.
    name : str
    pixel_lanes : int
        Where lanes of a vector are pixels, how many: tiles are chosen to fill them, from whole rows of the image.
    answering : Formulation, optional
        The same for groups that end with a limit of counts and its bits: `fill` gets `limit_planes.Answers` where a tile would be.
    weight_elements : int, optional
        Elements of the arranged weights; by default one for each step, lane and vector of the contraction.
    """

    contraction: Contraction
    widest: int
    arrange: Callable[[np.ndarray], np.ndarray]
    fill: Callable
    tile_bytes: int
    name: str
    pixel_lanes: int = 0
    answering: Formulation | None = None
    weight_elements: int | None = None

    @property
    def size(self) -> int:
        """Elements of the arranged weights."""
        c = self.contraction
        return c.tap_count * c.lanes * c.group_vectors * c.groups if self.weight_elements is None else self.weight_elements


@dataclass(frozen=True)
class WholeKernel:
    """A formulation of groups that end with a limit of counts and its bits, which has no tile of counts, and writes the whole kernel.

    Parameters
    ----------
    name : str
    write : callable
        ``write(builder, anchor, limits, word_at, stage)``: arguments as of `packed._write`, and the `count_limits` of the group.
    """

    name: str
    write: Callable


def register_tiled(shape: BinaryShape, c: Contraction, widest: int, name: str) -> Formulation:
    """Return the formulation whose words of the input are widened to those of the weights and go through `fill_tile`.

    Parameters
    ----------
    shape : BinaryShape
    c : Contraction
    widest : int
        Pixels of a register tile at most.
    name : str
        What is counted and how; the words and the tile are added to it.
    """

    def fill(body, c, tile_shape, weights, tile, load_x):
        if shape.word == c.weight_dtype:
            return fill_tile(body, c, tile_shape, weights, tile, load_x)
        return fill_tile(body, c, tile_shape, weights, tile, lambda *at: tirx.Cast(c.weight_dtype, load_x(*at)))

    note = f"{name}, {shape.word} words, tile {widest} pixels x {c.vectors} vectors of {c.lanes} channels"
    return Formulation(c, widest, lambda array: arrange_weights(c, array), fill, _TILE_BYTES, note)
