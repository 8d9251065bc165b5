"""The design space of a kernel, as its generator tells it: every kernel that was written says what could have been decided otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tvm import relax

from bnncc.errors import InternalError
from bnncc.schedules import Choice, build_kernel
from bnncc.targets import Variant
from bnncc.tuning.task import kernel_version

__all__ = ["Point", "Space"]


@dataclass(frozen=True)
class Point:
    """A kernel of the space.

    Parameters
    ----------
    decisions : mapping
        All answers, by name.
    kernel : str
        Its version, see `kernel_version`; points of equal versions are one kernel.
    note : str
        What the schedule says it chose.
    choices : tuple of Choice
        The questions that it answers.
    """

    decisions: Mapping[str, object]
    kernel: str
    note: str
    choices: tuple[Choice, ...]


class Space:
    """The kernels of a group.

    Parameters
    ----------
    group : relax.Function
    variant : Variant
    """

    def __init__(self, group: relax.Function, variant: Variant):
        self.group, self.variant = group, variant
        self._points: dict[tuple, Point | None] = {}  # generating one takes a tenth of a second

    def untuned(self) -> Point:
        """Return the kernel without decisions."""
        point = self.point({})
        if point is None:
            raise InternalError("a kernel cannot be generated without decisions")
        return point

    def point(self, decisions: Mapping[str, object]) -> Point | None:
        """Return the kernel of some decisions, without those that it does not ask for or cannot take; None where the generator refuses the whole."""
        key = tuple(sorted(decisions.items()))
        if key not in self._points:
            try:
                kernel = build_kernel(self.group, self.variant, decisions, strict=False)
            except InternalError:
                self._points[key] = None
            else:
                taken = {choice.name: choice.taken for choice in kernel.choices}
                self._points[key] = Point(taken, kernel_version(kernel.func), kernel.note, kernel.choices)
        return self._points[key]

    def neighbours(self, point: Point) -> Iterator[Point]:
        """Yield the kernels that differ from `point` in one decision."""
        for choice in point.choices:
            for option in choice.options:
                if option != choice.taken:
                    found = self.point({**point.decisions, choice.name: option})
                    if found is not None:
                        yield found
