"""The inspect report as text: one table and a few sentences, 120 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bnncc.report.inspect import InspectReport

__all__ = ["print_report"]

_SIGN_ZERO = {
    "exact": "kept exactly, in two planes of bits, where it can occur",
    "plus": "taken as +1 (--sign-zero plus): not what ONNX computes where a 0 occurs",
    "minus": "taken as -1 (--sign-zero minus): not what ONNX computes where a 0 occurs",
}


def size(nbytes: int) -> str:
    """Return bytes for readers."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.3g} {unit}" if nbytes < 1000 * scale else f"{nbytes / scale:.0f} {unit}"
    return f"{nbytes} B"


def count(number: int) -> str:
    """Return a number for readers."""
    for unit, scale in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g}{unit}" if number < 1000 * scale else f"{number / scale:.0f}{unit}"
    return str(number)


def shape(dims) -> str:
    """Return a shape for readers."""
    return "x".join(map(str, dims))


def print_report(report: InspectReport, console: Console) -> None:
    """Print `report`."""

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=not console.is_terminal)

    for tensors, what in ((report.inputs, "input"), (report.outputs, "output")):
        head = f"{report.name} for {report.target} (shown for code {report.variant}), " if what == "input" else ""
        say(head + ", ".join(f"{what} {t['name']} {t['dtype']}[{', '.join(map(str, t['shape']))}]" for t in tensors))
    console.print()
    reasons = _print_layers(report, console)
    for number, reason in enumerate(reasons, 1):
        say(f"[{number}] {reason}")
    console.print()
    _print_steps(report, console)
    console.print()
    for sentence in _sentences(report):
        say(sentence)
    for warning in report.warnings:
        say(f"warning: {' '.join(warning.split())}")


def _print_layers(report: InspectReport, console: Console) -> list[str]:
    """Print the table of layers; return the reasons that its last column numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold", min_width=16)
    table.add_column("operator", no_wrap=True)
    table.add_column("runs on", no_wrap=True)
    for title in ("input", "output", "MACs", "as float32", "compiled"):
        table.add_column(title, justify="right", no_wrap=title not in ("input", "output"))
    table.add_column("why", no_wrap=True)
    reasons: list[str] = []
    for layer in report.layers:
        if layer.reason not in reasons:
            reasons.append(layer.reason)
        kind = f"{layer.op} {layer.detail}".strip()
        runs = Text("bits", "green") if layer.bits else Text("integers", "cyan") if layer.integer else Text("float")
        sizes = (size(layer.float_weight_bytes), size(layer.weight_bytes)) if layer.weight_bytes else ("-", "-")
        shapes = (shape(layer.in_shape), shape(layer.out_shape))
        table.add_row(Text(layer.node), Text(kind), runs, *shapes, count(layer.macs), *sizes, f"[{reasons.index(layer.reason) + 1}]")
    if report.layers:
        console.print(table)
        console.print("Shapes have their channels last, as compiled; the last two sizes are those of the weights.")
    else:
        console.print("The model has no convolution and no dense layer.")
    return reasons


def _held(tensors) -> str:
    """Return types, shapes and sizes of tensors for readers; equal ones once, with their number."""
    said = [f"{t.type} {shape(t.shape)} {size(t.nbytes)}" for t in tensors]
    return ", ".join(text if said.count(text) == 1 else f"{said.count(text)} x {text}" for text in dict.fromkeys(said))


def _print_steps(report: InspectReport, console: Console) -> None:
    """Print what each kernel call reads and writes, and what its schedule chose."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step", justify="right", no_wrap=True)
    for title in ("makes", "reads", "writes", "kernel"):
        table.add_column(title, overflow="fold")
    for number, step in enumerate(report.steps, 1):
        table.add_row(str(number), Text(step.writes[-1]), _held(step.inputs), _held(step.outputs), Text(step.note))
    console.print(table)


def _sentences(report: InspectReport) -> list[str]:
    """Return what is told below the table."""
    totals, memory = report.totals, report.memory
    said = []
    if totals["layers"]:
        share = 100 * totals["bit_share_of_macs"]
        said.append(
            f"Multiply-accumulates: {count(totals['macs'])} a run, {share:.1f} % of them on bits "
            f"({totals['bit_layers']} of {totals['layers']} layers)."
        )
        said.append(
            f"Weights: {size(totals['float_weight_bytes'])} as float32, {size(totals['weight_bytes'])} compiled; "
            "all constants of the library, "
            f"thresholds and tables included: {size(memory.constants_bytes)}."
        )
    said.append(
        f"Memory of a run: {size(memory.arena_bytes)} of workspace "
        f"(no plan for this order needs less than {size(memory.lower_bound_bytes)}), "
        f"{len(report.steps)} kernel calls."
    )
    if report.maps:
        said.append(_between_kernels(report.maps))
    if report.packed:
        held, real = (sum(getattr(m, name) for m in report.packed) for name in ("nbytes", "float_bytes"))
        largest = max(report.packed, key=lambda m: m.float_bytes)
        said.append(
            f"Packed feature maps: {len(report.packed)}, together {size(held)} instead of {size(real)}; the largest, {largest.tensor}, "
            f"takes {size(largest.nbytes)} instead of {size(largest.float_bytes)}."
        )
    if report.sign_zeros:
        planes = sum(1 for m in report.packed if m.planes == 2)
        tensors = list(report.sign_zeros)
        shown = ", ".join(tensors[:4]) + (f" and {len(tensors) - 4} more" if len(tensors) > 4 else "")
        more = f"; {planes} packed maps have two planes" if report.sign_zero == "exact" else ""
        said.append(f"Sign(0) can reach binary layers through {shown}; it is {_SIGN_ZERO[report.sign_zero]}{more}.")
    others = report.float_operators
    if others:
        listed = ", ".join(f"{row['count']} {name} ({count(row['elements'])} elements)" for name, row in others.items())
        said.append(f"Float beside the layers: {listed}.")
    else:
        said.append("Nothing beside the layers runs in float.")
    if report.assignment:
        said.append(f"Layouts decided by the tuner's records: {'; '.join(report.assignment)}.")
    return said


def _between_kernels(maps) -> str:
    """Tell of what type the tensors in the workspace are, and name those that are no bits."""
    kinds = []
    for kind in ("bits", "integers", "float"):
        of_kind = [m.nbytes for m in maps if m.kind == kind]
        if of_kind:
            kinds.append(f"{len(of_kind)} of {kind} (largest {size(max(of_kind))})")
    others = sorted((m for m in maps if m.kind != "bits"), key=lambda m: -m.nbytes)
    named = ", ".join(f"{m.tensor} {m.dtype}[{shape(m.shape)}] {size(m.nbytes)}" for m in others[:8])
    named += f" and {len(others) - 8} smaller" if len(others) > 8 else ""
    return f"Tensors between kernels: {', '.join(kinds)}." + (f" Not bits: {named}." if others else "")
