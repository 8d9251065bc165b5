"""What a schedule returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tvm import tirx

from bnncc.schedules.choices import Choice

__all__ = ["Kernel", "Relayout"]


@dataclass(frozen=True)
class Relayout:
    """How a constant is rearranged at compile time.

    Parameters
    ----------
    arrange : callable
        Its array, and those of `reads`, to what the kernel reads; size and dtype may change.
    reads : tuple of int
        Further parameters, constants too, that `arrange` has to know.
    """

    arrange: Callable[..., np.ndarray]
    reads: tuple[int, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """One PrimFunc for a group.

    Parameters
    ----------
    func : tirx.PrimFunc
        Takes one-dimensional buffers: the group's parameters in order, then its outputs in order. A buffer has as many elements as the
        tensor (row-major), a rearranged constant as many as `relayout` returns.
    relayout : dict
        For a parameter that is a constant: its `Relayout`.
    note : str
        Formulation and tile chosen, for reports.
    choices : tuple of Choice
        What could have been decided otherwise.
    """

    func: tirx.PrimFunc
    relayout: dict[int, Relayout] = field(default_factory=dict)
    note: str = ""
    choices: tuple[Choice, ...] = ()

    def arranged(self, index: int, constant: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return what the kernel gets for a parameter of `relayout`; ``constant(i)`` is the array of parameter i."""
        relayout = self.relayout[index]
        return relayout.arrange(*map(constant, (index, *relayout.reads)))
