"""Operators that only move values: reshapes, slices, joins."""

from __future__ import annotations

import math

import numpy as np
from tvm import relax
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of, converts


@converts("Transpose")
def convert_transpose(c: Conversion) -> relax.Expr:
    """Permute the axes; in reverse if the order is left out."""
    return R.permute_dims(c[0], c.attributes.get("perm"))


@converts("Reshape")
def convert_reshape(c: Conversion) -> relax.Expr:
    """A 0 keeps a dimension (unless allowzero), one -1 takes what is left."""
    shape, target = c.shape(c[0]), [int(d) for d in c.constant(1, "target shape").reshape(-1)]
    if not c.attributes.get("allowzero", 0):
        target = [shape[i] if d == 0 else d for i, d in enumerate(target)]
    if target.count(-1) == 1:
        rest = math.prod(d for d in target if d != -1)
        target[target.index(-1)] = math.prod(shape) // rest if rest else -1
    if math.prod(target) != math.prod(shape) or min(target, default=1) < 1:
        raise c.misshapen(
            f"an input of shape {list(shape)} cannot be given the shape {target}. If --shape was given, use the shapes the model was "
            "exported with."
        )
    return R.reshape(c[0], target)


@converts("Flatten")
def convert_flatten(c: Conversion) -> relax.Expr:
    """Two dimensions: before the axis and from it on."""
    shape, axis = c.shape(c[0]), c.attributes.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return R.reshape(c[0], (math.prod(shape[:axis]), math.prod(shape[axis:])))


@converts("Squeeze")
def convert_squeeze(c: Conversion) -> relax.Expr:
    """Drop axes of size 1, all where none is named."""
    shape, axes = c.shape(c[0]), c.ints(1, "axes", "list of axes")
    dropped = {a % len(shape) for a in axes} if axes else {i for i, d in enumerate(shape) if d == 1}
    return R.reshape(c[0], [d for i, d in enumerate(shape) if i not in dropped])


@converts("Unsqueeze")
def convert_unsqueeze(c: Conversion) -> relax.Expr:
    """Insert axes of size 1 at positions counted in the result."""
    shape, axes = c.shape(c[0]), c.ints(1, "axes", "list of axes") or []
    rank = len(shape) + len(axes)
    inserted, rest = {a % rank for a in axes}, iter(shape)
    return R.reshape(c[0], [1 if i in inserted else next(rest) for i in range(rank)])


@converts("Concat")
def convert_concat(c: Conversion) -> relax.Expr:
    """Join along an axis."""
    rank = len(c.shape(c[0]))
    return R.concat(c.inputs, c.attributes["axis"] % rank) if len(c) > 1 else c[0]


@converts("Slice")
def convert_slice(c: Conversion) -> relax.Expr:
    """Slices with fixed bounds; negative ones count from the end, steps may go backwards."""
    shape = c.shape(c[0])
    starts, ends = c.ints(1, "starts", "starts"), c.ints(2, "ends", "ends")
    axes = c.ints(3, "axes", "axes") or list(range(len(starts)))
    steps = c.ints(4, "steps", "steps") or [1] * len(starts)
    return _slice(c[0], shape, [a % len(shape) for a in axes], [slice(*bounds) for bounds in zip(starts, ends, steps)])


def _slice(x: relax.Expr, shape: tuple[int, ...], axes: list[int], slices: list[slice]) -> relax.Expr:
    begin, end, step = [], [], []
    for axis, part in zip(axes, slices):
        # Python clamps as ONNX does; -1 as an end that goes backwards past index 0 has to stay out of range.
        first, last, by = part.indices(shape[axis])
        begin.append(first)
        end.append(last if last >= 0 else -shape[axis] - 1)
        step.append(by)
    return R.strided_slice(x, axes, begin, end, step)


@converts("Split")
def convert_split(c: Conversion) -> list[relax.Expr]:
    """Consecutive slices; equal ones where no sizes are given, the last one smaller if they do not fit."""
    shape = c.shape(c[0])
    axis = c.attributes.get("axis", 0) % len(shape)
    sizes = c.ints(1, "split", "list of sizes")
    if sizes is None:
        count = c.attributes.get("num_outputs", len(c.node.output))
        most = -(-shape[axis] // count)
        sizes = [min(most, shape[axis] - i * most) for i in range(count)]
    bounds = np.cumsum([0, *sizes]).tolist()
    return [_slice(c[0], shape, [axis], [slice(a, b)]) for a, b in zip(bounds, bounds[1:])]


@converts("Expand")
def convert_expand(c: Conversion) -> relax.Expr:
    """Repeat along axes of size 1, in either of the two shapes."""
    target = np.broadcast_shapes(c.shape(c[0]), tuple(int(d) for d in c.constant(1, "target shape").reshape(-1)))
    return R.broadcast_to(c[0], target)


@converts("Tile")
def convert_tile(c: Conversion) -> relax.Expr:
    """Repeat whole axes."""
    return R.tile(c[0], [int(v) for v in c.constant(1, "repeats").reshape(-1)])


@converts("Gather")
def convert_gather(c: Conversion) -> relax.Expr:
    """Pick entries along an axis: a slice where the indices are evenly spaced."""
    shape = c.shape(c[0])
    axis = c.attributes.get("axis", 0) % len(shape)
    indices = c.array(1)
    if indices is None:
        return R.take(c[0], c[1], axis, mode="wrap")
    indices = c.in_bounds(indices, shape[axis], axis)
    result = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    flat = indices.reshape(-1)
    step = int(flat[1] - flat[0]) if flat.size > 1 else 1
    if step > 0 and np.array_equal(flat, flat[0] + step * np.arange(flat.size)):
        part = _slice(c[0], shape, [axis], [slice(int(flat[0]), int(flat[-1]) + 1, step)])
        return part if indices.ndim == 1 else R.reshape(c.emit(part), result)
    taken = R.take(c[0], constant_of(flat), axis, mode="clip")  # in bounds, and without a warning of TVM's
    return taken if indices.ndim == 1 else R.reshape(c.emit(taken), result)


@converts("Identity", "Dropout")
def convert_identity(c: Conversion) -> relax.Expr:
    """The value as it is; Dropout does nothing at inference."""
    if c.node.op_type == "Dropout" and c.get(2) is not None and c.constant(2, "training mode").item():
        raise c.unsupported("training_mode is true. Export the model in inference mode (model.eval()).")
    return c[0]
