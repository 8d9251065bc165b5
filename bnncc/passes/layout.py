"""Layouts as regroupings of atoms: what reshape, transpose and broadcast do to a value without touching its memory.

A value has *logical* axes, those of the ONNX tensor, and *stored* axes, those of the Relax variable that holds it. Both are products of the same *atoms*, sizes
greater than 1 numbered in logical row-major order. An NCHW image stored NHWC is::

    logical ((N,), (C,), (H,), (W,))    stored ((0,), (2,), (3,), (1,))

and a channel shuffle or a flatten changes only how atoms are grouped on the logical side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np

__all__ = ["Layout", "common_factors"]


def common_factors(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the coarsest row-major split of an axis that refines both splits of it, None where they do not nest.

    (2, 64) and (64, 2) have (2, 32, 2); (3, 4) and (4, 3) have none.
    """
    cuts = sorted({1, *accumulate(first, mul), *accumulate(second, mul)})
    if any(b % a for a, b in zip(cuts, cuts[1:])):
        return None
    return tuple(b // a for a, b in zip(cuts, cuts[1:]))


def _runs(coarse: tuple[int, ...], fine: tuple[int, ...]) -> list[list[int]]:
    """Return, for each coarse factor, the positions of the fine ones that it is the product of."""
    out, i = [], 0
    for factor in coarse:
        run, product = [], 1
        while product < factor:
            product *= fine[i]
            run.append(i)
            i += 1
        out.append(run)
    return out


@dataclass(frozen=True)
class Layout:
    """A value's logical axes as sizes of atoms, and its stored axes as numbers of atoms."""

    logical: tuple[tuple[int, ...], ...]
    stored: tuple[tuple[int, ...], ...]

    @staticmethod
    def plain(shape: tuple[int, ...]) -> Layout:
        """Return the layout of a value stored as it is."""
        logical = tuple((n,) if n > 1 else () for n in shape)
        numbers = iter(range(len(shape)))
        return Layout(logical, tuple(tuple(next(numbers) for _ in axis) for axis in logical))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the logical axes."""
        return tuple(math.prod(axis) for axis in self.logical)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the atoms by number."""
        return tuple(n for axis in self.logical for n in axis)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Sizes of the stored axes."""
        sizes = self.sizes
        return tuple(math.prod(sizes[a] for a in group) for group in self.stored)

    @property
    def order(self) -> tuple[int, ...]:
        """Atoms as they follow in memory."""
        return tuple(a for group in self.stored for a in group)

    def axes(self) -> tuple[tuple[int, ...], ...]:
        """Return the atoms of each logical axis."""
        numbers = iter(range(len(self.sizes)))
        return tuple(tuple(next(numbers) for _ in axis) for axis in self.logical)

    def with_factors(self, factors: list[tuple[int, ...]]) -> Layout:
        """Split atom i into ``factors[i]``, which changes no memory."""
        start = [0, *accumulate(len(f) for f in factors)]
        numbers = iter(range(len(factors)))
        logical = tuple(tuple(f for _ in axis for f in factors[next(numbers)]) for axis in self.logical)
        stored = tuple(tuple(n for a in group for n in range(start[a], start[a + 1])) for group in self.stored)
        return Layout(logical, stored)

    def split_axis(self, axis: int, fine: tuple[int, ...]) -> Layout:
        """Split the atoms of one logical axis into a refinement of them."""
        runs = _runs(self.logical[axis], fine)
        mine = self.axes()[axis]
        factors = [(n,) for n in self.sizes]
        for atom, run in zip(mine, runs):
            factors[atom] = tuple(fine[i] for i in run)
        return self.with_factors(factors)

    def simplified(self) -> Layout:
        """Join atoms that follow one another in a logical and in a stored axis alike: equal layouts become equal."""
        glued = {(a, b) for group in self.stored for a, b in zip(group, group[1:]) if b == a + 1}
        logical, number, new = [], {}, -1
        for atoms, sizes in zip(self.axes(), self.logical):
            axis = []
            for atom, size in zip(atoms, sizes):
                if axis and (atom - 1, atom) in glued:
                    axis[-1] *= size
                else:
                    axis.append(size)
                    new += 1
                number[atom] = new
            logical.append(tuple(axis))
        stored = tuple(tuple(dict.fromkeys(number[a] for a in group)) for group in self.stored)
        return Layout(tuple(logical), stored)

    def permuted(self, perm: tuple[int, ...]) -> Layout:
        """Return the layout of the transposed value: logical axis i is now what ``perm[i]`` was."""
        axes = self.axes()
        renumber = {atom: i for i, atom in enumerate(a for p in perm for a in axes[p])}
        return Layout(tuple(self.logical[p] for p in perm), tuple(tuple(renumber[a] for a in g) for g in self.stored)).simplified()

    def reshaped(self, shape: tuple[int, ...]) -> Layout | None:
        """Return the layout of the reshaped value over the same memory, None where the new axes cut atoms that do not nest."""
        sizes = self.sizes
        wanted = tuple(n for n in shape if n > 1)
        fine = common_factors(sizes, wanted)
        if fine is None:
            return None
        split = self.with_factors([tuple(fine[i] for i in run) for run in _runs(sizes, fine)])
        runs = iter(_runs(wanted, fine))
        logical = tuple(tuple(fine[i] for i in next(runs)) if n > 1 else () for n in shape)
        return Layout(logical, split.stored).simplified()

    def ordered(self, perm: tuple[int, ...]) -> Layout:
        """Return the layout that stores whole logical axes, stored axis i being logical axis ``perm[i]``."""
        logical = tuple((math.prod(axis),) if axis else () for axis in self.logical)
        axes = Layout(logical, ()).axes()
        return Layout(logical, tuple(axes[p] for p in perm))

    def perm(self) -> tuple[int, ...] | None:
        """Return which logical axis each stored axis is, None where a stored axis is no whole logical axis in its own order."""
        if len(self.logical) != len(self.stored):
            return None
        axes = {atoms: i for i, atoms in enumerate(self.axes()) if atoms}
        if any(group and group not in axes for group in self.stored):
            return None
        free = iter(i for i, axis in enumerate(self.logical) if not axis)
        return tuple(axes[group] if group else next(free) for group in self.stored)

    def regrouped(self) -> Layout | None:
        """Return a layout over the same memory with one stored axis a logical one, None where the memory does not fall apart that way.

        A flattened NHWC image (N, CHW) becomes the stored axes N and HWC.
        """
        axes = [set(a) for a in self.axes()]
        groups, order = [], list(self.order)
        while order:
            axis = next(a for a in axes if order[0] in a)
            run = order[: len(axis)]
            if set(run) != axis:
                return None
            groups.append(tuple(run))
            order = order[len(axis) :]
        missing = len(self.logical) - len(groups)
        first = [i for i, a in enumerate(axes) if not a]
        for i in first[:missing]:  # axes of size 1 keep their place where they can
            groups.insert(min(i, len(groups)), ())
        return Layout(self.logical, tuple(groups)).simplified()

    def without(self, atoms: set[int]) -> Layout:
        """Return the layout of a value that has lost these atoms: reduced or sliced to one."""
        left = {atom: i for i, atom in enumerate(a for a in range(len(self.sizes)) if a not in atoms)}
        logical = tuple(tuple(n for a, n in zip(axis, sizes) if a in left) for axis, sizes in zip(self.axes(), self.logical))
        return Layout(logical, tuple(tuple(left[a] for a in g if a in left) for g in self.stored)).simplified()

    def with_outer(self, axis: int, size: int) -> Layout:
        """Give a logical axis of size 1 an atom, the outermost of the innermost stored axis."""
        if size == 1:
            return self
        atom = sum(len(a) for a in self.logical[:axis])
        *groups, innermost = ([a + (a >= atom) for a in g] for g in self.stored)
        logical = (*self.logical[:axis], (size,), *self.logical[axis + 1 :])
        return Layout(logical, tuple(tuple(g) for g in (*groups, [atom, *innermost]))).simplified()

    def gather_index(self, source: tuple[int, ...], target: tuple[int, ...]) -> np.ndarray:
        """Return, for one stored axis, the position in the group `source` of each position in the group `target`.

        Atoms that only the target has repeat the value; both groups are numbers of atoms.
        """
        sizes = self.sizes
        index = np.arange(math.prod(sizes[a] for a in source)).reshape([sizes[a] for a in source])
        index = index.transpose([source.index(a) for a in target if a in source])
        index = index.reshape([sizes[a] if a in source else 1 for a in target])
        return np.broadcast_to(index, [sizes[a] for a in target]).reshape(-1)
