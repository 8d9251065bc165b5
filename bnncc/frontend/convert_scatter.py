"""Scatters to fixed places: what ``x[:, k] = y`` is exported as becomes a concatenation of what stays of x and of y."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, converts

__all__ = ["convert_scatter_nd", "convert_scatter_elements"]


@converts("ScatterND")
def convert_scatter_nd(c: Conversion) -> relax.Expr:
    """Write slices at index tuples, the later ones over the earlier."""
    shape, indices = c.shape(c[0]), c.constant(1, "indices").astype(np.int64)
    depth = indices.shape[-1]
    tuples = indices.reshape(-1, depth)
    inner = int(np.prod(shape[depth:]))
    source = np.full((int(np.prod(shape[:depth])), inner), -1, np.int64)
    rows = np.ravel_multi_index(tuple(c.in_bounds(tuples[:, i], shape[i], i) for i in range(depth)), shape[:depth])
    for count, row in enumerate(rows):
        source[row] = np.arange(count * inner, (count + 1) * inner)
    return _merged(c, source.reshape(shape))


@converts("ScatterElements", "Scatter")
def convert_scatter_elements(c: Conversion) -> relax.Expr:
    """Write element by element along an axis, the later ones over the earlier."""
    shape, indices = c.shape(c[0]), c.constant(1, "indices").astype(np.int64)
    axis = c.attributes.get("axis", 0) % len(shape)
    places = list(np.indices(indices.shape))
    places[axis] = c.in_bounds(indices, shape[axis], axis)
    source = np.full(shape, -1, np.int64)
    np.put(source, np.ravel_multi_index(tuple(places), shape).ravel(), np.arange(indices.size))
    return _merged(c, source)


def _merged(c: Conversion, source: np.ndarray) -> relax.Expr:
    """Return the data, element i replaced by update ``source[i]`` where that is not negative, as whole slices along one axis.

    Raises
    ------
    UnsupportedOperator
        The node adds or multiplies, or what it writes are no whole slices.
    """
    if c.attributes.get("reduction", "none") != "none":
        raise c.unsupported(f"its reduction is {c.attributes['reduction']!r}; only 'none' is supported. Export the model with a plain assignment.")
    if (source < 0).all():
        return c[0]
    updates = int(np.prod(c.shape(c[2])))
    for axis in range(source.ndim):
        lines = np.moveaxis(source, axis, 0)
        written = (lines >= 0).reshape(len(lines), -1)
        which = np.flatnonzero(written.all(1))
        if len(which) != written.any(1).sum() or updates % len(which) or updates // len(which) != lines[0].size:
            continue
        shape = (*source.shape[:axis], len(which), *source.shape[axis + 1 :])
        given = np.moveaxis(np.arange(updates).reshape(shape), axis, 0).reshape(len(which), -1)
        order = [np.flatnonzero((given == lines[i].ravel()).all(1)) for i in which]
        if all(len(found) == 1 for found in order):
            return _joined(c, axis, dict(zip(which.tolist(), (int(found[0]) for found in order), strict=True)), shape)
    raise c.unsupported("what it writes are no whole slices of its input along one axis, in order; only such are supported. Export the model with x[:, k] = y.")


def _joined(c: Conversion, axis: int, taken: dict[int, int], shape: tuple[int, ...]) -> relax.Expr:
    """Concatenate slices of the data and of the updates; `taken` tells for a place along the axis which slice of the updates is there."""
    updates, size = c.emit(R.reshape(c[2], shape)), c.shape(c[0])[axis]
    places = [(i in taken, taken.get(i, i)) for i in range(size)]
    starts = [i for i in range(size) if i == 0 or places[i] != (places[i - 1][0], places[i - 1][1] + 1)]
    parts = []
    for start, end in zip(starts, [*starts[1:], size], strict=True):
        written, first = places[start]
        parts.append(c.emit(R.strided_slice(updates if written else c[0], [axis], [first], [first + end - start], [1])))
    return R.concat(parts, axis) if len(parts) > 1 else parts[0]
