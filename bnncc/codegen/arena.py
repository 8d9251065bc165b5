"""The arena: where in the workspace each intermediate tensor of a straight line lives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["ALIGNMENT", "Arena", "Lifetime", "plan_arena"]

# One cache line, and one AVX-512 register.
ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A buffer that is alive from step `first` to step `last`, both included.

    Parameters
    ----------
    key : object
        Names the buffer in the plan; any hashable.
    nbytes : int
        Size in bytes.
    first, last : int
        The steps (kernel calls) that write it first and use it last.
    """

    key: object
    nbytes: int
    first: int
    last: int

    @property
    def padded(self) -> int:
        """Size in bytes, rounded up to the alignment."""
        return -(-self.nbytes // ALIGNMENT) * ALIGNMENT

    def meets(self, other: Lifetime) -> bool:
        """Tell whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """A plan: the offset of each buffer in bytes, the size of the arena, and the least size that any plan could reach."""

    offsets: dict[object, int]
    nbytes: int
    lower_bound: int


def _lower_bound(lifetimes: Iterable[Lifetime]) -> int:
    """Return the largest sum of sizes that are alive at one step."""
    changes: dict[int, int] = {}
    for item in lifetimes:
        changes[item.first] = changes.get(item.first, 0) + item.padded
        changes[item.last + 1] = changes.get(item.last + 1, 0) - item.padded
    alive = most = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive)
    return most


def _place(order: Sequence[Lifetime]) -> dict[object, int]:
    """Place the buffers one by one, each in the smallest gap between those it meets that holds it (best fit)."""
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[object, int] = {}
    for item in order:
        neighbours = sorted(((offset, other.padded) for offset, other in placed if other.meets(item)), key=lambda pair: pair[0])
        best, best_gap, end = None, None, 0
        for offset, size in neighbours:
            gap = offset - end
            if gap >= item.padded and (best_gap is None or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, offset + size)
        offsets[item.key] = end if best is None else best
        placed.append((offsets[item.key], item))
    return offsets


def plan_arena(lifetimes: Sequence[Lifetime]) -> Arena:
    """Give every buffer an offset so that no two that are alive together overlap.

    Parameters
    ----------
    lifetimes : sequence of Lifetime
        With distinct keys.

    Returns
    -------
    Arena
        The smallest of several greedy plans. Offsets are multiples of `ALIGNMENT`.

    Notes
    -----
    Offset assignment is NP-hard (it is dynamic storage allocation); greedy best fit over a few orders reaches the lower bound on nearly all
    straight-line networks, whose tensors live for a step or two. The orders: largest first, largest area in time and space first, in the
    order of the program, longest lived first, and the steps under most pressure first.
    """
    bound = _lower_bound(lifetimes)
    steps = range(max((item.last for item in lifetimes), default=0) + 1)
    pressure = [sum(item.padded for item in lifetimes if item.first <= step <= item.last) for step in steps]
    span = {item.key: item.last - item.first + 1 for item in lifetimes}
    peak = {item.key: max(pressure[item.first : item.last + 1]) for item in lifetimes}
    orders = (
        lambda item: (-item.padded, -span[item.key]),
        lambda item: (-item.padded * span[item.key],),
        lambda item: (item.first, -item.padded),
        lambda item: (-span[item.key], -item.padded),
        lambda item: (-peak[item.key], -item.padded),
    )
    best: Arena | None = None
    for order in orders:
        ordered = sorted(lifetimes, key=order)
        offsets = _place(ordered)
        nbytes = max((offsets[item.key] + item.padded for item in ordered), default=0)
        if best is None or nbytes < best.nbytes:
            best = Arena(offsets, nbytes, bound)
        if best.nbytes == bound:
            break
    return best
