"""Register tiles of float contractions on NEON, whose multiply-add takes a factor from a lane of a register: neighbours of the input are loaded as a vector.

For 4 elements of the input, P pixels and V vectors of channels that is 4 P V ``fmla``, P loads of inputs, and V / 2 loads of a pair of vectors of weights for
each element. 5 x 4 takes 95 instructions for 80 ``fmla``; a load of each single input element took 1.6 for each, as LLVM spilled what it loaded early.
"""

from __future__ import annotations

from bnncc.schedules.register_tile import pixel_tiles
from bnncc.targets.manifest import Core

__all__ = ["RUN", "neon_tile", "neon_tiles"]

RUN = 4
"""Elements of the input in a vector."""

_LATENCY = 4
"""Cycles from one ``fmla`` to the next that adds to its result."""

# pixels x vectors; with more, LLVM spills: 6 x 4 and 8 x 3 anywhere, 5 x 4 and 7 x 3 in the order of an in-order processor
_TILES = ((5, 4), (7, 3), (8, 2), (8, 1))
_TILES_IN_ORDER = ((4, 4), (8, 2), (8, 1))


def neon_tiles(core: Core) -> tuple[tuple[int, int], ...]:
    """Return the register tiles, pixels x vectors, that a processor's order of instructions leaves without spills."""
    return _TILES_IN_ORDER if core.in_order else _TILES


def neon_tile(core: Core, row_pixels: int, group_vectors: int) -> tuple[int, int]:
    """Return pixels and vectors of the register tile for rows of `row_pixels` and groups of so many vectors: of fewest cycles, then instructions."""

    def cost(tile: tuple[int, int]) -> tuple[float, float]:
        whole, rest = divmod(group_vectors, tile[1])
        blocks = [(tile[1], whole)] * bool(whole) + [(rest, 1)] * bool(rest)
        cycles = instructions = 0.0
        for _, count, width in pixel_tiles(row_pixels, tile[0]):
            for vectors, times in blocks:
                adds, loads = RUN * width * vectors, width + RUN * -(-vectors // 2)
                all_of_it = adds + loads + 3
                cycles += count * times * max(core.cycles(all_of_it, adds, loads), RUN * _LATENCY)
                instructions += count * times * all_of_it
        return cycles, instructions

    return min(neon_tiles(core), key=cost)
