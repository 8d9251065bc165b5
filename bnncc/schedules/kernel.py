"""What a schedule returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tvm import tirx

__all__ = ["Kernel", "Relayout"]

Relayout = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Kernel:
    """One PrimFunc for a group.

    Parameters
    ----------
    func : tirx.PrimFunc
        Takes one-dimensional buffers: the group's parameters in order, then its outputs in order. A buffer has as many elements as the
        tensor (row-major), a rearranged constant as many as `relayout` returns.
    relayout : dict
        For a parameter that is a constant: how its array is rearranged at compile time (size and dtype may change).
    note : str
        Formulation and tile chosen, for reports.
    """

    func: tirx.PrimFunc
    relayout: dict[int, Relayout] = field(default_factory=dict)
    note: str = ""
