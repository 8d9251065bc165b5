"""How the pixels of an image fill the lanes of a word."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx

__all__ = ["LANES", "PixelBlocks", "first_of"]

LANES = 32


@dataclass(frozen=True)
class PixelBlocks:
    """How output pixels fill the lanes: `rows` rows of `width` pixels; what is left at an edge is covered by a block that overlaps the one before.

    Parameters
    ----------
    height, breadth : int
        Of the output.
    rows, width : int
    stacked : int
        Blocks one above the other, each in a word of a vector.
    """

    height: int
    breadth: int
    rows: int
    width: int
    stacked: int = 1

    @property
    def covered(self) -> int:
        """Rows of all blocks that are computed at once."""
        return self.rows * self.stacked

    @property
    def down(self) -> int:
        """Blocks, or stacks of them, from top to bottom."""
        return -(-self.height // self.covered)

    def in_vectors(self, words: int) -> PixelBlocks:
        """Return the same blocks stacked for vectors of some words, where fewest stacks do."""
        choices = [replace(self, stacked=stacked) for stacked in range(1, min(words, self.height // self.rows) + 1)]
        return min(choices, key=lambda blocks: (blocks.down, blocks.stacked))

    @property
    def across(self) -> int:
        """Blocks from left to right."""
        return -(-self.breadth // self.width)

    @classmethod
    def of(cls, height: int, breadth: int, reach: int, words: int = 1) -> PixelBlocks | None:
        """Return the blocks that are fewest, in vectors of `words`, where the taps reach over `reach` lanes; None where they reach too far."""
        found = [cls(height, breadth, min(height, LANES // width), width) for width in range(1, min(breadth, LANES - reach) + 1)]
        fewest = min(found, key=_cost, default=None)
        return fewest and fewest.in_vectors(words)

    @classmethod
    def of_any_shape(cls, height: int, breadth: int, words: int = 1) -> PixelBlocks:
        """Return the blocks that are fewest of an image that may be cut into rows of any length: a pixel has no neighbours there, as with 1 x 1 taps."""
        pixels = height * breadth
        shapes = [(height, breadth), *((pixels // width, width) for width in range(LANES, 1, -1) if pixels % width == 0), (1, pixels)]
        return min((cls.of(*shape, 0, words) for shape in shapes), key=_cost)


def _cost(blocks: PixelBlocks) -> tuple[int, int]:
    """Return how many blocks there are and how many rows have to be joined for one."""
    return blocks.down * blocks.across, blocks.rows


def first_of(block, size: int, whole: int):
    """Return where a block of an axis starts: the last one ends where the axis does."""
    return block * size if whole % size == 0 else tirx.min(block * size, whole - size)
