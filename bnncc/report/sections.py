"""Sections: the compiled program cut wherever a tensor of the ONNX model exists in it, each piece an entry of its own.

A section is the smallest run of kernel calls whose inputs and outputs all correspond to ONNX tensors. Fed the reference's own tensors, it
is compared by itself: what one layer rounds does not reach the next. The entries call the very group functions of ``main``, so they run
the very kernels::

    p = group_1(c, fill)                        @R.function
    n = group_2(p, w, t)                ->      def section_0(c): p = group_1(c, fill); n = group_2(p, w, t); return n
    y = group_3(n, w2)                          def section_1(n): y = group_3(n, w2); return y
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Tuple, TupleGetItem

from bnncc.errors import InternalError
from bnncc.ops import dtype_of, static_shape
from bnncc.ops.pack import PackAttrs, pack_reference, unpack_reference
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.rewrite import Graph, substitute, used_vars

__all__ = ["Boundary", "Section", "cut_sections"]


@dataclass(frozen=True)
class Boundary:
    """A tensor between two sections: how the variable's memory and the ONNX tensor relate.

    Parameters
    ----------
    name : str
        Of the Relax variable.
    view : TensorView
        From the variable's numbers (of packed words: the codes they hold) to the ONNX tensor.
    packed : PackAttrs or None
        How words hold codes.
    shape : tuple of int
    dtype : str
        Of the variable.
    """

    name: str
    view: TensorView
    packed: PackAttrs | None
    shape: tuple[int, ...]
    dtype: str

    @property
    def is_code(self) -> bool:
        """Whether the variable holds codes: -1, 0, +1 in words, small integers as they are."""
        return self.packed is not None or self.dtype in ("int8", "uint8", "int16")

    def codes(self, tensor: np.ndarray) -> np.ndarray:
        """Return the codes nearest to the numbers of the ONNX tensor, float, with channels last."""
        return np.rint(self.moved(tensor, scaled=True).astype(np.float64))

    def between(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest code of the numbers between two bounds of the ONNX tensor, float."""
        if not self.view.levels:
            ends = self.codes(low), self.codes(high)
            return np.minimum(*ends), np.maximum(*ends)
        plain = self.moved(low), self.moved(high)
        first, last = (self.view.nearest_level(side) for side in (np.minimum(*plain), np.maximum(*plain)))
        least, largest = np.full(first.shape, np.inf), np.full(first.shape, -np.inf)
        for place, (_, code) in enumerate(self.view.levels):
            inside = (first <= place) & (place <= last)
            least, largest = np.where(inside, np.minimum(least, code), least), np.where(inside, np.maximum(largest, code), largest)
        return least, largest

    def moved(self, tensor: np.ndarray, scaled: bool = False) -> np.ndarray:
        """Return an array shaped as the ONNX tensor in the order of the variable's elements."""
        view = self.view if scaled else replace(self.view, scale=1.0, offset=0.0, levels=())
        return view.from_onnx(tensor)

    def encode(self, tensor: np.ndarray) -> np.ndarray:
        """Return what the variable holds when the ONNX tensor is `tensor`.

        Raises
        ------
        InternalError
            The tensor holds something that the variable cannot: the record of what the variable means is wrong.
        """
        if not self.is_code:
            held = self.moved(tensor, scaled=True)
        else:
            held = self.codes(tensor)
            self._require_known(held)
            held = held if self.packed is None else pack_reference(self.packed, held.astype(np.int32))
        if held.shape != self.shape:
            raise InternalError(
                f"{self.name} has shape {list(self.shape)}, but the ONNX tensor {self.view.onnx!r} gives {list(held.shape)}."
            )
        return held.astype(self.dtype, order="C", copy=False)

    def _require_known(self, held: np.ndarray) -> None:
        """Raise where there are codes that the variable cannot hold."""
        if self.packed is not None:
            known = self.packed.codes
        else:
            limits = np.iinfo(self.dtype)
            known = range(limits.min, limits.max + 1)
        found = np.unique(held)
        strange = found[~np.isin(found, known)]
        if strange.size:
            raise InternalError(f"{self.name} holds codes from {known[0]} to {known[-1]}, but the ONNX tensor {self.view.onnx!r} gives {strange[:5]}.")

    def decode(self, held: np.ndarray) -> np.ndarray:
        """Return the variable's numbers: of words, the codes in them."""
        return held if self.packed is None else unpack_reference(self.packed, held)


@dataclass(frozen=True)
class Section:
    """A piece of the program.

    Parameters
    ----------
    entry : str
        Name of its function in the module and its entry in the library.
    inputs, outputs : tuple of Boundary
    is_binary : bool
        Whether codes go in, come out, or are made in between.
    """

    entry: str
    inputs: tuple[Boundary, ...]
    outputs: tuple[Boundary, ...]
    is_binary: bool


@dataclass
class _Unit:
    """A call, with the fields taken from its result."""

    bindings: list = field(default_factory=list)

    @property
    def made(self) -> list[relax.Var]:
        return [b.var for b in self.bindings]

    @property
    def read(self) -> list[relax.Var]:
        own = set(self.made)
        return [v for b in self.bindings for v in used_vars(b.value) if v not in own]


def cut_sections(fused: tvm.IRModule, ctx: PassContext, outputs: Iterable[str]) -> tuple[tvm.IRModule, list[Section]]:
    """Add an entry for every section to a module.

    Parameters
    ----------
    fused : IRModule
        After `fuse_epilogue`.
    ctx : PassContext
        Of the passes that made it.
    outputs : iterable of str
        ONNX names of the outputs of ``main``.

    Returns
    -------
    module : IRModule
        With a function ``section_<k>`` for each.
    sections : list of Section
        In order of computation.
    """
    graph = Graph(fused)
    units = _units(graph)
    known = _boundaries(graph, ctx, outputs)
    sections = []
    module = tvm.IRModule({g: f for g, f in fused.functions_items()}, attrs=fused.attrs)
    for members in _connected(units, known):
        section, function = _section(f"section_{len(sections)}", members, known)
        if section.outputs:
            sections.append(section)
            module[section.entry] = function
    return module, sections


def _units(graph: Graph) -> list[_Unit]:
    units, unit_of = [], {}
    for b in graph.bindings:
        if isinstance(b.value, TupleGetItem):
            unit = unit_of[b.value.tuple_value]
        else:
            unit = _Unit()
            units.append(unit)
        unit.bindings.append(b)
        unit_of[b.var] = unit
    return units


def _boundaries(graph: Graph, ctx: PassContext, outputs: Iterable[str]) -> dict[relax.Var, Boundary]:
    """Return the variables that correspond to ONNX tensors."""
    views: dict[relax.Var, TensorView] = {
        v: TensorView(name) for v, name in zip(graph.outputs, outputs, strict=True) if isinstance(v, relax.Var)
    }
    for v in (*graph.params, *(b.var for b in graph.bindings)):
        if v.name in ctx.tensors:
            views[v] = ctx.tensors[v.name]
    known = {}
    for v, view in views.items():
        if not isinstance(v.ty, relax.TensorType):
            continue
        packed = ctx.packed.get(v.name)
        words = ctx.are_words(v.name, dtype_of(v))
        if words and packed is None and v not in graph.params:
            continue  # words of which nothing is recorded
        known[v] = Boundary(v.name, view, packed if words else None, static_shape(v), dtype_of(v))
    return known


def _connected(units: list[_Unit], known: Mapping[relax.Var, Boundary]) -> list[list[_Unit]]:
    """Return the units joined by tensors that no ONNX tensor corresponds to."""
    group = list(range(len(units)))

    def leader(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    maker = {v: i for i, unit in enumerate(units) for v in unit.made}
    for i, unit in enumerate(units):
        for v in unit.read:
            if v in maker and v not in known:
                low, high = sorted((leader(i), leader(maker[v])))
                group[high] = low
    members: dict[int, list[_Unit]] = {}
    for i, unit in enumerate(units):
        members.setdefault(leader(i), []).append(unit)
    return list(members.values())


def _section(entry: str, units: list[_Unit], known: Mapping[relax.Var, Boundary]) -> tuple[Section, relax.Function]:
    read = list(dict.fromkeys(v for unit in units for v in unit.read if v in known))
    params = {v: relax.Var(v.name, v.ty) for v in read}
    leaving = [v for unit in units for v in unit.made if v in known]
    made: dict[relax.Var, relax.Var] = {}
    bindings = []
    for unit in units:
        inside = set(unit.made)
        for b in unit.bindings:
            # a known tensor is read from outside, even where this section makes it: no difference is passed on
            mapping = {v: params[v] if v in params and v not in inside else made[v] for v in used_vars(b.value)}
            value = substitute(b.value, mapping)
            name = f"{b.var.name}_made" if b.var in params else b.var.name
            var = (relax.Var if b.var in leaving else relax.DataflowVar)(name, b.var.ty)
            made[b.var] = var
            bindings.append(relax.VarBinding(var, relax.BlockBuilder().normalize(value)))
    inputs, outputs = tuple(known[v] for v in read), tuple(known[v] for v in leaving)
    everything = [*inputs, *outputs]
    hidden = [v for unit in units for v in unit.made if isinstance(v.ty, relax.TensorType) and dtype_of(v).startswith("uint")]
    section = Section(entry, inputs, outputs, bool(hidden) or any(b.is_code for b in everything))
    if not leaving:
        return section, None
    results = [made[v] for v in leaving]
    result = results[0] if len(results) == 1 else Tuple(results)
    seq = relax.BlockBuilder().normalize(relax.SeqExpr([relax.DataflowBlock(bindings)], result))
    ty = results[0].ty if len(results) == 1 else relax.TupleType([r.ty for r in results])
    return section, relax.Function(list(params.values()), seq, ty, is_pure=True).with_attr("global_symbol", entry)
