"""How the pixels of an image fill the lanes of a vector: a block is some rows of it, or a part of one; and where in it the inputs of a tap stand.

The inputs that the taps of a block read are *maps*, rows of pixels one behind the other without gaps, so that a tap is a distance in its map. Two kinds are
possible::

    joined     one map for all taps, or one for each phase of the strides; its rows are as long as those of the input, so that between two
               rows of outputs stand lanes of no use
    apart      one map for each column of taps, its rows as long as those of outputs, so that all lanes are of use

The second takes several maps, each of which has to be made; 8 rows of 32 pixels fill 256 lanes with it, and 7 without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx

from bnncc.schedules.formulations.formulation import BinaryShape

__all__ = ["InputMap", "LaneBlocks", "phase_steps"]


@dataclass(frozen=True)
class InputMap:
    """Rows of pixels of the input, seen from the outputs of a block: `tap` reads the first of them, `rows` and `columns` are how many there are."""

    tap: tuple[int, int]
    rows: int
    columns: int

    @property
    def pixels(self) -> int:
        """Pixels of the map."""
        return self.rows * self.columns


@dataclass(frozen=True)
class LaneBlocks:
    """Blocks of `rows` rows of `width` outputs, `pitch` lanes apart; the last blocks end where their rows do, and overlap those before.

    Parameters
    ----------
    height, breadth : int
        Of the output, as far as the blocks cover it.
    rows, width, pitch : int
    maps : tuple of InputMap
    places : dict
        Of each tap (row, column): number of its map, and distance in it.
    top : int
        First row of the output.
    rest : LaneBlocks, optional
        A block of the rows that are left, too few to fill a vector.
    """

    height: int
    breadth: int
    rows: int
    width: int
    pitch: int
    maps: tuple[InputMap, ...]
    places: dict[tuple[int, int], tuple[int, int]]
    top: int = 0
    rest: LaneBlocks | None = None

    @property
    def down(self) -> int:
        """Blocks from top to bottom."""
        return -(-self.height // self.rows)

    @property
    def across(self) -> int:
        """Blocks from left to right."""
        return -(-self.breadth // self.width)

    @property
    def reach(self) -> int:
        """Lanes from the first input of a map to the last that any tap reads for the first output."""
        return max(distance for _, distance in self.places.values())

    @property
    def map_pixels(self) -> int:
        """Pixels of the largest map."""
        return max(part.pixels for part in self.maps)

    @classmethod
    def of(cls, shape: BinaryShape, lanes: int, most_rows: int, few: int = 0) -> tuple[LaneBlocks, ...]:
        """Return blocks of both kinds, with as many rows as `lanes` hold, and at most `most_rows`; also such as leave rows that `few` lanes hold."""
        height, breadth = shape.rows, shape.pixels // shape.rows
        width = -(-breadth // -(-breadth // lanes))
        found = []
        for apart in (False, True):
            gap = 0 if apart else max(column for *_, column in phase_steps(shape, False).values())
            high = min(height, most_rows, max(1, (lanes + gap) // (width + gap)))
            even = -(-height // -(-height // high))
            found.append(cls._with_rows(shape, even, width, width + gap, apart, 0, height))
            rest = height % high
            if rest and width == breadth and rest * (width + gap) - gap <= few:
                last = cls._with_rows(shape, rest, width, width + gap, apart, height - rest, rest)
                found.append(replace(cls._with_rows(shape, high, width, width + gap, apart, 0, height - rest), rest=last))
        return tuple(found)

    @property
    def lanes(self) -> int:
        """Lanes of a block from its first pixel to its last."""
        return (self.rows - 1) * self.pitch + self.width

    @classmethod
    def _with_rows(cls, shape: BinaryShape, rows: int, width: int, pitch: int, apart: bool, top: int, height: int) -> LaneBlocks:
        steps = phase_steps(shape, apart)
        phases = {phase: tap for tap, (phase, _, _) in reversed(steps.items())}
        maps = []
        for phase, first in phases.items():
            of_phase = [step for step in steps.values() if step[0] == phase]
            maps.append(InputMap(first, rows + max(row for _, row, _ in of_phase), pitch))
        numbers = {phase: number for number, phase in enumerate(phases)}
        places = {tap: (numbers[phase], row * pitch + column) for tap, (phase, row, column) in steps.items()}
        return cls(height, shape.pixels // shape.rows, rows, width, pitch, tuple(maps), places, top)

    def first_row(self, number):
        """Return where a block starts, from the top."""
        return _first(number, self.rows, self.height)

    def first_column(self, number):
        """Return where a block starts, from the left."""
        return _first(number, self.width, self.breadth)


def _first(number, size: int, whole: int):
    return number * size if whole % size == 0 else tirx.min(number * size, whole - size)


def phase_steps(shape: BinaryShape, apart: bool = False) -> dict[tuple[int, int], tuple[tuple, int, int]]:
    """Return of each tap (row, column) its phase of the strides, and how many rows and columns of outputs it is from the first tap of that.

    With `apart` the taps of each column are a phase of their own.
    """
    found, first = {}, {}
    for i in range(shape.taps[0]):
        for j in range(shape.taps[1]):
            at = i * shape.dilation[0], j * shape.dilation[1]
            phase = at[0] % shape.strides[0], j if apart else at[1] % shape.strides[1]
            start = first.setdefault(phase, at)
            found[i, j] = phase, (at[0] - start[0]) // shape.strides[0], (at[1] - start[1]) // shape.strides[1]
    return found
