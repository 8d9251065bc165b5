"""What a group shares with groups of other networks: its contraction, without what stands around it.

The kernel of a 3x3 convolution of 64 channels at 56 x 56 is much the same whether a batch normalization, a shortcut or thresholds follow. So a record that is
to serve networks nobody has tuned (`bnncc.tuning.shipped`) is about the core of a group: the contraction on its operands, and the thresholds and packing that
follow it at once, as formulations count no further than these ask for. What else stands in the group is told beside it, by the names of the operators.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from bnncc.ops import dtype_of, static_shape
from bnncc.passes.rewrite import op_name, substitute, used_vars
from bnncc.schedules import ANCHOR_OPS

__all__ = ["Core", "core_of"]

_MOVES = ("relax.bnn.pad", "relax.bnn.packed_pad", "relax.nn.pad", "relax.bnn.packed_max_pool2d")
"""Anchors that stand before or behind another one in its group."""


@dataclass(frozen=True)
class Core:
    """The core of a group.

    Parameters
    ----------
    function : relax.Function
        A group of its own: the anchor, with thresholds and packing where nothing else reads its sums.
    around : tuple of str
        Operators of the whole group that are not in it, each once, in order of their names.
    title : str
        Operator and shapes, for readers.
    """

    function: relax.Function
    around: tuple[str, ...]
    title: str


def core_of(group: relax.Function) -> Core | None:
    """Return the core of a group; None where it has no anchor."""
    bindings = list(group.body.blocks[0].bindings)
    anchors = [b for b in bindings if op_name(b.value) in ANCHOR_OPS]
    anchor = next((b for b in anchors if op_name(b.value) not in _MOVES), anchors[0] if anchors else None)
    if anchor is None:
        return None
    kept = [anchor, *_bits_of(group, anchor)]
    const_params = [int(i) for i in (group.attrs or {}).get("bnncc.const_params", [])]
    constants = {group.params[i] for i in const_params}
    made = {b.var for b in kept}
    reads = list(dict.fromkeys(var for b in kept for var in used_vars(b.value) if var not in made))
    params = [relax.Var(f"p{i}", var.ty) for i, var in enumerate(reads)]
    known: dict = dict(zip(reads, params, strict=True))
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            for b in kept:
                known[b.var] = builder.emit(substitute(b.value, known))
            result = builder.emit_output(known[kept[-1].var])
        builder.emit_func_output(result)
    function = builder.get()["main"].without_attr("global_symbol")
    function = function.with_attr("bnncc.const_params", [i for i, var in enumerate(reads) if var in constants])
    names = {op_name(b.value).rpartition(".")[2] for b in bindings if b not in kept and op_name(b.value)}
    return Core(function, tuple(sorted(names)), _title(anchor, kept))


def _bits_of(group: relax.Function, anchor: relax.VarBinding) -> list[relax.VarBinding]:
    """Return quantizer and packing where these alone read what the anchor makes."""
    bindings, outputs = list(group.body.blocks[0].bindings), set(used_vars(group.body.body))

    def only_reader(var: relax.Var, wanted: str) -> relax.VarBinding | None:
        readers = [b for b in bindings if var in set(used_vars(b.value))]
        alone = len(readers) == 1 and var not in outputs and op_name(readers[0].value) == wanted
        return readers[0] if alone else None

    quantized = only_reader(anchor.var, "relax.bnn.quantize")
    packed = None if quantized is None else only_reader(quantized.var, "relax.bnn.pack")
    return [] if packed is None else [quantized, packed]


def _title(anchor: relax.VarBinding, kept: list[relax.VarBinding]) -> str:
    shapes = [f"{dtype_of(a)}{list(static_shape(a))}" for a in anchor.value.args[:2] if isinstance(a, relax.Var)]
    return f"{op_name(anchor.value).rpartition('.')[2]} {' x '.join(shapes)} -> {list(static_shape(anchor.var))}" + (", bits" if len(kept) > 1 else "")
