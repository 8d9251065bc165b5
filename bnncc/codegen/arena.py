"""The arena: where in the workspace each intermediate tensor of a straight line lives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["ALIGNMENT", "Arena", "Lifetime", "plan_arena"]

# One cache line, and one AVX-512 register.
ALIGNMENT = 64

# Orders that the search tries where the greedy plans waste memory: a quarter of a second for 135 tensors.
_ROUNDS = 500


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
    alignment : int
        Of its offset, in bytes; the same for all of a plan.
    """

    key: object
    nbytes: int
    first: int
    last: int
    alignment: int = ALIGNMENT

    @property
    def padded(self) -> int:
        """Size in bytes, rounded up to the alignment."""
        return -(-self.nbytes // self.alignment) * self.alignment

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


def _neighbours(lifetimes: Sequence[Lifetime]) -> dict[object, list[Lifetime]]:
    """Return for each buffer those that are alive at some step with it."""
    return {item.key: [other for other in lifetimes if other is not item and other.meets(item)] for item in lifetimes}


def _place(order: Iterable[Lifetime], neighbours: dict[object, list[Lifetime]]) -> dict[object, int]:
    """Place the buffers one by one, each in the smallest gap between its placed neighbours that holds it (best fit)."""
    offsets: dict[object, int] = {}
    for item in order:
        taken = sorted((offsets[other.key], other.padded) for other in neighbours[item.key] if other.key in offsets)
        best, best_gap, end = None, None, 0
        for offset, size in taken:
            gap = offset - end
            if gap >= item.padded and (best_gap is None or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, offset + size)
        offsets[item.key] = end if best is None else best
    return offsets


def _top(offsets: dict[object, int], lifetimes: Sequence[Lifetime]) -> Lifetime:
    return max(lifetimes, key=lambda item: offsets[item.key] + item.padded)


def _orders(lifetimes: Sequence[Lifetime]) -> list[list[Lifetime]]:
    """Return the orders that the search starts from: by size, area in time and space, time, life and pressure."""
    steps = range(max(item.last for item in lifetimes) + 1)
    pressure = [sum(item.padded for item in lifetimes if item.first <= step <= item.last) for step in steps]
    life = {item.key: item.last - item.first + 1 for item in lifetimes}
    peak = {item.key: max(pressure[item.first : item.last + 1]) for item in lifetimes}
    keys = (
        lambda item: (-item.padded, -life[item.key]),
        lambda item: (-item.padded * life[item.key],),
        lambda item: (item.first, -item.padded),
        lambda item: (-life[item.key], -item.padded),
        lambda item: (-peak[item.key], -item.padded),
    )
    return [sorted(lifetimes, key=key) for key in keys]


def plan_arena(lifetimes: Sequence[Lifetime]) -> Arena:
    """Give every buffer an offset so that no two that are alive together overlap.

    Parameters
    ----------
    lifetimes : sequence of Lifetime
        With distinct keys.

    Returns
    -------
    Arena
        The smallest plan found; the same for the same lifetimes. Offsets are multiples of the alignment.

    Notes
    -----
    Offset assignment is NP-hard (it is dynamic storage allocation). Greedy best fit over a few orders reaches the lower bound on most
    straight-line networks, whose tensors live for a step or two. Where it does not, the search goes on from the best order: the buffer that
    sticks out highest and one of its neighbours are placed earlier, and the change stays unless the arena grows.
    """
    if not lifetimes:
        return Arena({}, 0, 0)
    bound, neighbours = _lower_bound(lifetimes), _neighbours(lifetimes)
    best: tuple[int, list[Lifetime], dict[object, int]] | None = None

    def attempt(order: list[Lifetime]) -> None:
        nonlocal best
        offsets = _place(order, neighbours)
        top = _top(offsets, lifetimes)
        nbytes = offsets[top.key] + top.padded
        if best is None or nbytes <= best[0]:
            best = nbytes, order, offsets

    for order in _orders(lifetimes):
        attempt(order)
        if best[0] == bound:
            break
    random = Random(0)
    for _ in range(_ROUNDS):
        if best[0] == bound:
            break
        order = list(best[1])
        top = _top(best[2], lifetimes)
        for item in (top, random.choice(neighbours[top.key])):  # alone it would lie at offset 0, and the plan would be perfect
            order.remove(item)
            order.insert(random.randrange(len(order) // 2 + 1), item)
        attempt(order)
    return Arena(best[2], best[0], bound)
