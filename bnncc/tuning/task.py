"""What is tuned: the distinct kernels of a model, each with its constants and the inputs that it meets in the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GlobalVar

from bnncc.ops import dtype_of, static_shape
from bnncc.passes.assignment import workload_key
from bnncc.passes.rewrite import Graph, op_name, replace_function, substitute
from bnncc.passes.step_work import StepWork, kernel_calls
from bnncc.schedules import ANCHOR_OPS

__all__ = ["Task", "extract_tasks", "kernel_version", "task_module", "tensors_between", "workload_key"]


@dataclass(frozen=True)
class Task:
    """A kernel of a model to be tuned.

    Parameters
    ----------
    workload : str
        See `workload_key`.
    title : str
        Operator and shapes, for readers.
    module : IRModule
        ``main`` calls the one group on the constants of its first occurrence.
    reads, writes : tuple of str
        Variables of the model that `main` takes, and that its first occurrence makes.
    layers : tuple of str
        ONNX tensors that its occurrences write; their number is how often it runs.
    macs, moved_bytes : int
        Multiply-accumulates of one call, and feature maps that it reads and writes.
    """

    workload: str
    title: str
    module: tvm.IRModule
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    layers: tuple[str, ...] = ()
    macs: int = 0
    moved_bytes: int = 0
    is_compared: bool = False
    """Whether its time is compared with that of other kernels (`bnncc.passes.assignment`), so that it is measured even where nothing of it is open."""
    is_alternative: bool = False
    """Whether no kernel of the model as it is fused by rule, but one of another layout."""

    @property
    def count(self) -> int:
        """How often a call of the model runs it."""
        return len(self.layers)


def kernel_version(func: tvm.tirx.PrimFunc) -> str:
    """Return the key of a generated kernel as it stands: it changes with anything that a generator writes differently."""
    return f"{tvm_ffi.structural_hash(func, map_free_vars=True) & (1 << 64) - 1:016x}"


def task_module(fused: tvm.IRModule, call: relax.Call) -> tuple[tvm.IRModule, tuple[str, ...]]:
    """Return a module whose ``main`` is one call of a group of `fused`, and the names of the variables that it takes."""
    reads = list(dict.fromkeys(a for a in call.args if isinstance(a, relax.Var)))
    params = [relax.Var(v.name, v.ty) for v in reads]
    value = substitute(call, dict(zip(reads, params, strict=True)))
    value = value if value.same_as(call) else relax.BlockBuilder().normalize(value)
    made = relax.Var("made", call.ty)
    body = relax.BlockBuilder().normalize(relax.SeqExpr([relax.DataflowBlock([relax.VarBinding(made, value)])], made))
    main = relax.Function(params, body, call.ty, is_pure=True).with_attr("global_symbol", "main")
    return tvm.IRModule({GlobalVar("main"): main, call.op: fused[call.op]}), tuple(v.name for v in reads)


def extract_tasks(fused: tvm.IRModule, work: Sequence[StepWork]) -> list[Task]:
    """Return the distinct kernels of ``main``, in the order of their first use.

    Parameters
    ----------
    fused : IRModule
        After `fuse_epilogue`.
    work : sequence of StepWork
        Of each kernel call.
    """
    found: dict[str, Task] = {}
    for (binding, written), step in zip(kernel_calls(fused), work, strict=True):
        group = fused[binding.value.op]
        key = workload_key(group)
        if key in found:
            known = found[key]
            found[key] = replace(known, layers=(*known.layers, ", ".join(step.writes)))
        else:
            module, reads = task_module(fused, binding.value)
            writes = tuple(v.name for v in written)
            title = _title(fused, binding.value)
            found[key] = Task(key, title, module, reads, writes, (", ".join(step.writes),), step.macs, step.moved_bytes)
    return list(found.values())


def _title(fused: tvm.IRModule, call: relax.Call) -> str:
    """Return the operators of a group, with the shapes of the anchor's operands."""
    bindings = Graph(fused, call.op.name_hint).bindings
    names = [name.removeprefix("relax.").removeprefix("nn.").removeprefix("bnn.") for b in bindings if (name := op_name(b.value))]
    anchor = next((b for b in bindings[::-1] if op_name(b.value) in ANCHOR_OPS), bindings[0])
    operands = anchor.value.args[:2] if isinstance(anchor.value, relax.Call) else []
    shapes = [f"{dtype_of(a)}{list(static_shape(a))}" for a in operands if isinstance(a, relax.Var)]
    shown = (op_name(anchor.value) or names[0]).rpartition(".")[2]
    return f"{shown} {' x '.join(shapes)}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def tensors_between(fused: tvm.IRModule, names: Sequence[str]) -> tvm.IRModule:
    """Return `fused` with a ``main`` that returns the variables called `names`, so that one run of the model gives the inputs of all its kernels."""
    graph = Graph(fused)
    known = {b.var.name: b.var for b in graph.bindings}
    graph.is_tuple = True
    return replace_function(fused, "main", graph, graph.bindings, [known[name] for name in names])
