"""Which of many combinations `make test` runs; the others are marked slow, and run in `make test-all`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

__all__ = ["in_turn", "pairs"]


def _param(values: Sequence, kept: bool):
    """Return a parameter set; a value that is a tuple stands for several parameters, a parameter set for its value and brings its marks."""
    marks = [mark for value in values if hasattr(value, "marks") for mark in value.marks]
    values = [value.values[0] if hasattr(value, "marks") else value for value in values]
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return pytest.param(*flat, marks=[*marks, *([] if kept else [pytest.mark.slow])])


def in_turn(axis: Sequence, others: Sequence, each: int = 1) -> list:
    """Combine each value of an axis with all `others`; `each` of these, in turn, are not slow."""
    return [_param((value, other), (place - i) % len(others) < each) for i, value in enumerate(axis) for place, other in enumerate(others)]


def pairs(*axes: Sequence) -> list:
    """Return all combinations of the axes; those are not slow in which every two values of two axes meet."""
    combinations = list(itertools.product(*(range(len(axis)) for axis in axes)))

    def met(combination) -> set:
        return set(itertools.combinations(enumerate(combination), 2))

    left, kept = set().union(*map(met, combinations)), set()
    while left:
        best = max(combinations, key=lambda combination: len(met(combination) & left))
        kept.add(best)
        left -= met(best)
    return [_param([axis[i] for axis, i in zip(axes, combination, strict=True)], combination in kept) for combination in combinations]
