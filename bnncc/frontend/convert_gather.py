"""Gathers of elements at fixed places, as adaptive pools of uneven windows and indexing by lists are exported: one take of the flattened tensor."""

from __future__ import annotations

import math

import numpy as np
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of, converts

__all__ = ["convert_gather_nd", "convert_gather_elements"]


@converts("GatherND")
def convert_gather_nd(c: Conversion) -> relax.Expr:
    """Pick slices at index tuples, which may be others for each place along the first ``batch_dims`` axes."""
    shape, indices = c.shape(c[0]), c.constant(1, "indices").astype(np.int64)
    batch, depth = c.attributes.get("batch_dims", 0), indices.shape[-1]
    leading = batch + depth
    own = np.indices(indices.shape[:-1])[:batch]  # where along the batch axes each tuple stands
    tuples = (*own, *(c.in_bounds(indices[..., i], shape[batch + i], batch + i) for i in range(depth)))
    return _taken(c, np.ravel_multi_index(tuples, shape[:leading]), shape[leading:])


@converts("GatherElements")
def convert_gather_elements(c: Conversion) -> relax.Expr:
    """Pick element by element along an axis."""
    shape, indices = c.shape(c[0]), c.constant(1, "indices").astype(np.int64)
    axis = c.attributes.get("axis", 0) % len(shape)
    places = list(np.indices(indices.shape))
    places[axis] = c.in_bounds(indices, shape[axis], axis)
    return _taken(c, np.ravel_multi_index(tuple(places), shape), ())


def _taken(c: Conversion, rows: np.ndarray, inner: tuple[int, ...]) -> relax.Expr:
    """Return the data's slices of shape `inner`, counted in order, that `rows` names."""
    count = math.prod(c.shape(c[0])) // math.prod(inner)
    flat = c.emit(R.reshape(c[0], (count, *inner)))
    return R.reshape(c.emit(R.take(flat, constant_of(rows.reshape(-1)), 0, mode="clip")), (*rows.shape, *inner))
