"""Fixed point, where it is asked for: the weights of the first or the last layer rounded to as many bits as sums of 32 bits leave room for, 16 at most.

It is the one step of the compiler that changes what a model computes. The layer then is one on small integers like any other, and ``verify`` counts what
differs from the source.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from bnncc.passes.code_range import CodeRange
from bnncc.passes.integers import IntegerFilters
from bnncc.passes.rewrite import REAL_LAYERS, Graph, used_vars

__all__ = ["FIXED_LAYERS", "layer_place", "rounded_filters"]

FIXED_LAYERS = ("first", "last")

_LARGEST = (1 << 15) - 1

_MOST = 1 << 28
"""Of a sum: thresholds that nothing reaches lie beyond it."""


def rounded_filters(filters: np.ndarray, codes: CodeRange) -> IntegerFilters:
    """Round filters to int16 times a scale for each, so that sums of their products with the codes stay small.

    Parameters
    ----------
    filters : ndarray, float32, shape (Co, ...)
    codes : CodeRange
        Of the layer's input, padding included.
    """
    length, reach = int(np.prod(filters.shape[1:])), max(abs(codes.lo), abs(codes.hi), 1)
    most = max(1, min(_LARGEST, _MOST // (length * reach)))
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    scale = np.abs(flat).max(axis=1) / most
    integers = np.rint(flat / np.where(scale > 0, scale, 1)[:, None]).astype(np.int16)
    return IntegerFilters(integers.reshape(filters.shape), scale.astype(np.float32))


def layer_place(graph: Graph, var: relax.Var) -> str | None:
    """Return whether a layer is the ``first``, behind an input alone, or the ``last``, with none behind it; None where it is neither.

    Parameters
    ----------
    graph : Graph
        As it is before layers are replaced.
    var : Var
        What the layer makes.
    """

    def read(each: relax.Var) -> list[relax.Var]:
        return list(used_vars(graph.value(each))) if graph.value(each) is not None else []

    operand = graph.value(var).args[0]
    if isinstance(operand, relax.Var) and graph.op(operand) not in REAL_LAYERS and _no_layer_beyond(graph, operand, read):
        return "first"
    return "last" if _no_layer_beyond(graph, var, graph.users) else None


def _no_layer_beyond(graph: Graph, start: relax.Var, following: Callable) -> bool:
    """Tell whether no layer stands on any way from `start` on."""
    waiting, seen = [start], {start}
    while waiting:
        for each in following(waiting.pop()):
            if graph.op(each) in REAL_LAYERS:
                return False
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return True
