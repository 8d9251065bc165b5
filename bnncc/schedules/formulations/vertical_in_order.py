"""Vertical counters for processors that execute in order: runs of instructions that take equally long, with the loads of what is counted next among them.

Such a processor lets nothing finish before what is older, in llvm-mca's models at least: an exclusive or (1 cycle) behind a load or a bitwise select (3 or 4)
stands still until that is done. Adders one after the other change between the two at every step. So those of all planes are done side by side::

    exclusive ors      the sums of all pairs that wait at any plane
    selects and loads  in turns, so that they are issued together: the carries of these pairs, which wait at the next plane then; the vectors of the next step,
                       and the cases of the one after it

LLVM would mix all of it again, to start loads early: `Statements.fence` keeps it from that. On the Cortex-A55's model 128 bits take 2.7 cycles so, and 3.5 in
the order of LLVM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tvm import tirx

from bnncc.schedules.formulations.vertical import LazyCounter
from bnncc.schedules.statements import Statements

__all__ = ["CounterInRuns"]

_STEP = 4
"""Vectors of a step; 5, 6 and 8 take 2.8, 2.8 and 3.0 cycles for 128 bits, 16 spill."""


class CounterInRuns(LazyCounter):
    """Adds vectors of bits to a counter by bitwise selects; arguments as of `LazyCounter`."""

    def __init__(self, body: Statements, plane: Callable, planes: int):
        super().__init__(body, plane, planes, "bsl")

    def add_looked_up(self, looks: list[tuple[Callable, Callable]]) -> None:
        """Add vectors of weight 1.

        Parameters
        ----------
        looks : list of tuple of callable
            ``case()`` loads where a vector stands, and ``vector(case)`` the vector.
        """
        vectors = [vector for _, vector in looks]
        cases: list = []
        loads = self._in_steps([case for case, _ in looks], cases)
        next_vectors = self._in_steps([lambda i=i, vector=vector: vector(cases[i]) for i, vector in enumerate(vectors)], self._waiting[0])
        for load in [*next(loads), *next(next_vectors), *next(loads)]:
            load()
        self._read_ready()
        while ready := self._ready():
            adders = self._sums(ready)
            waiting = [*next(next_vectors), *next(loads)]
            fence = self.planes[ready[-1]]
            self._body.fence(fence)
            for plane, x, b, c in adders:
                if plane + 1 < len(self.planes):
                    self._waiting[plane + 1].append(self._majority(x, b, c))
                if waiting:
                    waiting.pop(0)()
                self._body.fence(fence)
            for load in waiting:
                load()
            self._read_ready()
            self._body.fence(fence)

    def _ready(self) -> list[int]:
        """Return the planes at which a pair waits, the top one first."""
        return [plane for plane in reversed(range(len(self.planes))) if len(self._waiting[plane]) > 1]

    def _read_ready(self) -> None:
        for plane in self._ready():
            self._read(plane)

    def _sums(self, planes: list[int]) -> list[tuple]:
        """Add all pairs that wait to their planes; return (plane, exclusive or of the pair, one of the pair, plane before) for the carries."""
        adders = []
        for plane in planes:
            waiting = self._waiting[plane]
            while len(waiting) > 1:
                a, b = waiting.pop(0), waiting.pop(0)
                x = self._body.bind(tirx.bitwise_xor(a, b), "x")
                adders.append((plane, x, b, self.planes[plane]))
                self.planes[plane] = self._body.bind(tirx.bitwise_xor(x, self.planes[plane]), "s")
        return adders

    def _in_steps(self, values: list[Callable], found: list) -> Iterator[list[Callable]]:
        """Yield, for ever, what appends the values of the next step to `found`."""
        for first in range(0, len(values), _STEP):
            yield [lambda value=value: found.append(self._body.bind(value(), "w")) for value in values[first : first + _STEP]]
        while True:
            yield []
