"""Vertical counters: plane i holds bit i of the count of every lane; full adders, and the way back to one number a lane.

All values are kept in local buffers of one vector, which LLVM turns into registers: each is used several times, and TVM substitutes variables bound by
`Bind` into one another, which grows without end (StmtSimplify does, and so does the code generator).
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.schedules.statements import Statements, const

__all__ = ["LazyCounter", "VerticalCounter", "transpose_planes"]


class VerticalCounter:
    """Adds vectors of bits to the planes of a counter, two of one weight at a time.

    Parameters
    ----------
    body : Statements
    planes : list
        The planes so far; `planes` holds the sums after `finish`.
    adder : {None, "vpternlog", "bsl"}
        An instruction of three operands that a full adder is made of: ``vpternlogq`` on vectors of 512 bits (the planes are of type ``uint64x8`` then),
        or a bitwise select.
    """

    def __init__(self, body: Statements, planes: list, adder: str | None = None):
        self.planes = list(planes)
        self._body = body
        self._adder = adder
        self._waiting: list[list] = [[] for _ in planes]

    def add(self, bits, plane: int) -> None:
        """Add bits of weight ``2 ** plane``; what goes beyond the top plane is known to be zero."""
        if plane >= len(self.planes):
            return
        waiting = self._waiting[plane]
        waiting.append(bits)
        if len(waiting) == 2:
            a, b = waiting
            waiting.clear()
            self._add_two(a, b, plane)

    def _add_two(self, a, b, plane: int) -> None:
        """Add two vectors to a plane, and what is carried to the next one."""
        self.planes[plane], carry = self._full_adder(a, b, self.planes[plane])
        self.add(carry, plane + 1)

    def finish(self) -> None:
        """Let what waits ripple through the planes above."""
        for plane, waiting in enumerate(self._waiting):
            if waiting:
                (carry,) = waiting
                waiting.clear()
                for upper in range(plane, len(self.planes)):
                    value = self.planes[upper]
                    self.planes[upper] = self._body.bind(tirx.bitwise_xor(value, carry), "s")
                    if upper + 1 < len(self.planes):
                        carry = self._body.bind(tirx.bitwise_and(value, carry), "m")

    def _full_adder(self, a, b, c) -> tuple:
        bind = self._body.bind
        if self._adder == "vpternlog":
            name = "llvm.x86.avx512.pternlog.q.512"
            parity, majority = (tirx.call_llvm_pure_intrin("uint64x8", name, a, b, c, tirx.const(table, "int32")) for table in (0x96, 0xE8))
            return bind(parity, "s"), bind(majority, "m")
        x = bind(tirx.bitwise_xor(a, b), "x")
        total = bind(tirx.bitwise_xor(x, c), "s")
        if self._adder == "bsl":
            return total, self._majority(x, b, c)
        # b is used once, so that an instruction may take it from memory
        return total, bind(tirx.bitwise_xor(tirx.bitwise_and(tirx.bitwise_xor(a, c), x), a), "m")

    def _majority(self, x, b, c):
        """Return c where x says that b and the third bits differ, else b: LLVM makes one instruction of this spelling, three of most others."""
        difference = self._body.bind(tirx.bitwise_xor(b, c), "d")
        return self._body.bind(tirx.bitwise_xor(tirx.bitwise_and(difference, x), b), "m")


class LazyCounter(VerticalCounter):
    """A counter whose planes are read when they are first needed, and left None else.

    LLVM keeps those that it has read in registers, and spills others for them.

    Parameters
    ----------
    body : Statements
    plane : callable
        ``plane(i)``: a plane so far.
    planes : int
    adder : {None, "bsl"}
        As of `VerticalCounter`.
    """

    def __init__(self, body: Statements, plane: Callable, planes: int, adder: str | None = None):
        super().__init__(body, [None] * planes, adder)
        self._plane = plane

    def _read(self, plane: int):
        """Return a plane so far, read now if it was not before."""
        if self.planes[plane] is None:
            self.planes[plane] = self._body.bind(self._plane(plane), "c")
        return self.planes[plane]

    def _add_two(self, a, b, plane: int) -> None:
        self._read(plane)
        super()._add_two(a, b, plane)

    def finish(self) -> None:
        """Let what waits ripple through the planes above."""
        first = next((plane for plane, waiting in enumerate(self._waiting) if waiting), len(self.planes))
        for plane in range(first, len(self.planes)):
            self._read(plane)
        super().finish()


def transpose_planes(body: Statements, planes: list, lanes: int) -> list:
    """Turn 8 planes of type ``uint64x<lanes>`` into 8 vectors of bytes: byte i of vector r is the count of bit r of byte i."""
    rows = list(planes)
    for step, mask in ((4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333), (1, 0x5555555555555555)):
        shift = const(step, "uint64", lanes)
        for low in (i for i in range(8) if not i & step):
            a, b = rows[low], rows[low + step]
            t = tirx.bitwise_and(tirx.bitwise_xor(tirx.shift_right(a, shift), b), const(mask, "uint64", lanes))
            t = body.bind(t, "t")
            rows[low + step] = body.bind(tirx.bitwise_xor(b, t), "b")
            rows[low] = body.bind(tirx.bitwise_xor(a, tirx.shift_left(t, shift)), "a")
    return rows
