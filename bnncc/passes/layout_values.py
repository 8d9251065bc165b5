"""Values under a layout, and the bindings that bring one from its layout into another: the movement that `canonicalize_layout` cannot avoid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import relax

from bnncc.errors import InternalError
from bnncc.ops.registry import static_shape
from bnncc.passes.layout import Layout, common_factors
from bnncc.passes.rewrite import const, constant

__all__ = ["Value", "Mover", "standard"]

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Value:
    """A variable or constant, the layout it is stored in, and the name of the variable that it stands for in the module as it came."""

    expr: relax.Expr
    layout: Layout
    name: str

    @property
    def array(self) -> np.ndarray | None:
        """The array of a constant."""
        return constant(self.expr)


def standard(layout: Layout) -> Layout:
    """Return the layout that every rule can work with: NHWC for four axes, which are NCHW in ONNX, else the logical order."""
    return layout.ordered((0, 2, 3, 1) if len(layout.logical) == 4 else tuple(range(len(layout.logical))))


class Mover:
    """Move values between layouts; each movement of a variable is bound once.

    Parameters
    ----------
    bind : callable
        ``bind(expr, value name, layout or None)`` binds an expression: the value of that name in that layout, or None for a part of the way.
    """

    def __init__(self, bind: Callable[[relax.Expr, str, Layout | None], relax.Var]):
        self._bind = bind
        self._done: dict[tuple, relax.Var] = {}

    def whole(self, value: Value) -> Value:
        """Return the value with every stored axis a whole logical one; as it is where it has that."""
        return value if value.layout.perm() is not None else self.convert(value, standard(value.layout))

    def plain(self, value: Value) -> relax.Expr:
        """Return the value in logical order and shape."""
        return self.convert(value, value.layout.ordered(tuple(range(len(value.layout.logical))))).expr

    def convert(self, value: Value, layout: Layout) -> Value:
        """Return the value in another layout of the same logical shape."""
        return Value(self.spread(value, layout), layout, value.name)

    def spread(self, value: Value, layout: Layout, trim: bool = False) -> relax.Expr:
        """Return an expression that broadcasts to the stored shape of `layout`.

        Parameters
        ----------
        value : Value
            Its logical shape broadcasts to that of `layout`.
        layout : Layout
        trim : bool
            Whether a constant that varies along no axis but the last may come as a scalar or as a vector.

        Returns
        -------
        Expr
            Of the stored rank (but for `trim`); axes that the value does not have are 1. Where it lacks a part of a stored axis only (slices of a sign on
            channels), that axis is repeated by a gather.
        """
        refined = _refine(value, layout)
        if refined is None:
            # the two split one axis differently: meet where that axis is whole
            if standard(value.layout) != value.layout:
                return self.spread(self.convert(value, standard(value.layout)), layout, trim)
            middle = standard(layout)
            return self.spread(Value(self.spread(value, middle), middle, value.name), layout, trim)
        source, want = refined
        present = {a for group in source for a in group}
        kept = tuple(tuple(a for a in group if a in present) for group in want.stored)
        if value.array is not None:
            return _spread_constant(value.array, source, kept, want, trim)
        steps = _reorder(source, kept, want.sizes, static_shape(value.expr))
        for axis, (group, full) in enumerate(zip(kept, want.stored)):
            if group and group != full:
                steps.append(("take", axis, tuple(want.gather_index(group, full).tolist())))
        expr = value.expr
        for i, step in enumerate(steps):
            last = i == len(steps) - 1 and value.layout.shape == layout.shape
            expr = self._move(expr, step, value.name, layout if last else None)
        return expr

    def regroup(self, value: Value) -> Value:
        """Give the value one stored axis a logical one by a reshape alone, where that is possible and it has more stored axes than logical ones."""
        layout = value.layout.regrouped() if len(value.layout.stored) > len(value.layout.logical) else None
        if layout is None or value.array is not None:
            return value
        return Value(self._move(value.expr, ("reshape", layout.stored_shape), value.name, layout), layout, value.name)

    def _move(self, expr, step, name, layout):
        key = (expr, step)
        if key not in self._done:
            kind, *what = step
            if kind == "take":
                axis, index = what
                call = relax.op.take(expr, const(np.asarray(index, np.int32)), axis, "clip")
            else:
                call = getattr(relax.op, kind)(expr, what[0])
            self._done[key] = self._bind(call, name, layout)
        return self._done[key]


def _refine(value: Value, layout: Layout) -> tuple[Groups, Layout] | None:
    """Split the atoms of both until they agree.

    Returns
    -------
    tuple or None
        The value's stored groups in the numbers of the split layout, and that layout; None where an axis is split in ways that do not nest.
    """
    lacking = len(layout.logical) - len(value.layout.logical)
    have = Layout(((),) * lacking + value.layout.logical, value.layout.stored)
    for axis, mine in enumerate(have.logical):
        if not mine:
            continue
        if math.prod(mine) != math.prod(layout.logical[axis]):
            raise InternalError(f"{value.name} of shape {list(value.layout.shape)} does not broadcast to {list(layout.shape)}.")
        fine = common_factors(mine, layout.logical[axis])
        if fine is None:
            return None
        have, layout = have.split_axis(axis, fine), layout.split_axis(axis, fine)
    numbers = [n for mine, atoms in zip(have.logical, layout.axes()) if mine for n in atoms]
    return tuple(tuple(numbers[a] for a in group) for group in have.stored), layout


def _spread_constant(array, source, kept, want, trim):
    """Do at compile time what `_reorder` and the gathers do at run time."""
    sizes = want.sizes
    order, wanted = [a for g in source for a in g], [a for g in kept for a in g]
    array = array.reshape([sizes[a] for a in order]).transpose([order.index(a) for a in wanted])
    array = array.reshape([math.prod(sizes[a] for a in g) for g in kept])
    for axis, (group, full) in enumerate(zip(kept, want.stored)):
        if group and group != full:
            array = np.take(array, want.gather_index(group, full), axis)
    if trim and math.prod(array.shape[:-1]) == 1:
        array = array.reshape(-1) if array.size > 1 else array.reshape(())
    return const(array)


def _reorder(source: Groups, target: Groups, sizes: tuple[int, ...], shape: tuple[int, ...]) -> list[tuple]:
    """Return the steps that bring stored groups of atoms into another order and grouping of the same atoms."""
    wanted_shape = tuple(math.prod(sizes[a] for a in g) for g in target)
    memory, wanted = [a for g in source for a in g], [a for g in target for a in g]
    if memory == wanted:
        return [("reshape", wanted_shape)] if wanted_shape != shape else []
    if len(source) == len(target):
        differ = [i for i, (s, t) in enumerate(zip(source, target)) if s != t]
        if len(differ) == 1:
            index = Layout(tuple((n,) for n in sizes), ()).gather_index(source[differ[0]], target[differ[0]])
            return [("take", differ[0], tuple(index.tolist()))]
        if sorted(source) == sorted(target):
            perm, free = [], [i for i, g in enumerate(source) if not g]
            for group in target:
                perm.append(source.index(group) if group else free.pop(0))
            return [("permute_dims", tuple(perm))]
    pieces = []  # runs of atoms that stay together
    for atom in wanted:
        if pieces and memory.index(atom) == memory.index(pieces[-1][-1]) + 1:
            pieces[-1].append(atom)
        else:
            pieces.append([atom])
    in_memory = sorted(pieces, key=lambda piece: memory.index(piece[0]))
    steps = []
    for kind, what in (
        ("reshape", tuple(math.prod(sizes[a] for a in p) for p in in_memory)),
        ("permute_dims", tuple(in_memory.index(p) for p in pieces)),
        ("reshape", wanted_shape),
    ):
        if kind == "reshape" and what == shape:
            continue
        shape = what if kind == "reshape" else tuple(shape[i] for i in what)
        steps.append((kind, what))
    return steps
