"""Kernels that MetaSchedule schedules: a group of Relax's own operators as loops without a schedule, and a trace of TVM's schedule primitives on them.

Such a group is a float layer and what surrounds it; of ours it may hold thresholds and packing. The trace is what a record keeps (`bnncc.tuning.traces`).
"""

from __future__ import annotations

import json
import math

import tvm
import tvm_ffi
from tvm import relax, s_tir, tirx
from tvm.ir import GenericConst, Tuple
from tvm.s_tir.schedule import Trace
from tvm.sym.pattern import detect_linear_equation

from bnncc.errors import InternalError
from bnncc.ops import static_shape
from bnncc.schedules.builder import PARALLEL_ELEMENTS
from bnncc.schedules.choices import Choice
from bnncc.schedules.fallback import LEGALIZATIONS, without_constants
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.plain_thresholds import PLAIN_THRESHOLDS

__all__ = ["TRACE", "finished", "keeps_order", "plain_loops", "traced"]

TRACE = "trace"
"""The decision that holds a trace, as the text of its JSON."""

_LEGALIZATIONS = LEGALIZATIONS | PLAIN_THRESHOLDS

_MOST_THRESHOLDS = 16
"""Comparisons stand one after the other in a loop's body; with more the generated kernel alone is searched."""


def plain_loops(group: relax.Function) -> tirx.PrimFunc | None:
    """Return a group as one function of unscheduled loops over its parameters and outputs; None where it holds other operators than `_LEGALIZATIONS` take."""
    bindings = list(group.body.blocks[0].bindings)
    names = [getattr(getattr(b.value, "op", None), "name", "") for b in bindings]
    if not all(name in _LEGALIZATIONS or (name.startswith("relax.") and not name.startswith("relax.bnn.")) for name in names):
        return None
    if any(name == "relax.bnn.quantize" and static_shape(b.value.args[1])[0] > _MOST_THRESHOLDS for name, b in zip(names, bindings, strict=True)):
        return None
    params = {old: relax.Var(f"p{i}", old.ty) for i, old in enumerate(group.params)}
    constants: dict[relax.Var, GenericConst] = {}
    known = dict(params)

    def local(expr):
        if isinstance(expr, GenericConst):  # of one element; fused functions hold none
            var = relax.Var(f"c{len(constants)}", expr.ty)
            constants[var] = expr
            return var
        return Tuple([local(field) for field in expr.fields]) if isinstance(expr, Tuple) else known.get(expr, expr)

    body = []
    for b in bindings:
        call = relax.BlockBuilder().normalize(relax.Call(b.value.op, [local(arg) for arg in b.value.args], b.value.attrs, b.value.ty_args))
        known[b.var] = relax.Var(b.var.name, b.var.ty)
        body.append(relax.VarBinding(known[b.var], call))
    result = local(group.body.body)
    every = [*params.values(), *constants]
    primitive = relax.Function(every, relax.SeqExpr([relax.DataflowBlock(body)], result), group.body.ty, is_pure=True)
    module = tvm.IRModule({"main": primitive.with_attr("global_symbol", "main")})
    module = relax.transform.LegalizeOps(_LEGALIZATIONS)(module)
    legal = module["main"]
    if any(getattr(b.value.op, "name", "") != "relax.call_tir" for b in legal.body.blocks[0].bindings):
        return None
    func = _fused(module, legal)
    fields = [*params.values(), *constants.values()]
    return without_constants(func, fields).with_attr("tirx.noalias", True)


def _fused(module: tvm.IRModule, legal: relax.Function) -> tirx.PrimFunc:
    """Join the functions that a legalized function calls into one."""
    builder = relax.BlockBuilder(tvm.IRModule({name: func for name, func in module.functions_items() if name.name_hint != "main"}))
    group = builder.add_func(legal.without_attr("global_symbol").with_attr("Primitive", 1), "group")
    params = [relax.Var(param.name, param.ty) for param in legal.params]
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(relax.Call(group, params))
        builder.emit_func_output(result)
    fused = relax.transform.FuseTIR()(builder.get())
    found = [func for _, func in fused.functions_items() if isinstance(func, tirx.PrimFunc)]
    if len(found) != 1:
        raise InternalError(f"a group of Relax's operators became {len(found)} functions")
    return found[0].without_attr("global_symbol") if found[0].attrs and "global_symbol" in found[0].attrs else found[0]


def traced(group: relax.Function, trace: str) -> Kernel:
    """Build a group by a trace.

    Raises
    ------
    InternalError
        The group has no plain loops, the trace does not fit them, or its schedule sums in another order.
    """
    func = plain_loops(group)
    if func is None:
        raise InternalError("a trace was decided for a group that has no plain loops")
    schedule = s_tir.Schedule(tvm.IRModule({"main": func}))
    try:
        Trace.apply_json_to_schedule(json.loads(trace), schedule)
    except Exception as error:  # whatever a schedule primitive raises where the loops are others
        raise InternalError(f"the trace of a record does not fit its kernel: {str(error).strip().splitlines()[-1]}") from error
    made = finished(schedule)
    if not keeps_order(made):
        raise InternalError("the trace of a record sums in another order than the operator")
    return Kernel(made, {}, "scheduled by MetaSchedule", (Choice(TRACE, (trace,), trace, trace),))


def finished(schedule: s_tir.Schedule) -> tirx.PrimFunc:
    """Return what was scheduled; the outermost loop is shared out where it is one nest, and large enough: threads do not wait inside a kernel."""
    func = schedule.mod["main"]
    body = func.body.block.body
    size = math.prod(int(dim) for dim in func.params[-1].ty.shape)
    loop = body
    while isinstance(loop, tirx.For) and isinstance(loop.extent, tirx.IntImm) and int(loop.extent) == 1:
        loop = loop.body
    if size < PARALLEL_ELEMENTS or not isinstance(loop, tirx.For) or loop.kind != tirx.ForKind.SERIAL or func.body.block.alloc_buffers:
        return func
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    outer = next(found for found in schedule.get_loops(blocks[0]) if schedule.get(found).loop_var.same_as(loop.loop_var))
    try:
        schedule.parallel(outer)
    except tvm.s_tir.ScheduleError:  # it carries a sum
        return func
    return schedule.mod["main"]


def keeps_order(func: tirx.PrimFunc) -> bool:
    """Tell whether every sum of floats takes its terms as the operator does: the last axis fastest, each from its first number to its last.

    A term has a number, that of its place in the order. So of the loops that it is computed from, a step of the innermost has to add 1 to it, and one of any
    other as much as all those within go through.
    """
    loops: dict[tirx.Var, int] = {}
    realized: list[s_tir.SBlockRealize] = []
    tvm_ffi.structural_walk(func.body, [(tirx.For, lambda node: _note(loops, node)), (s_tir.SBlockRealize, realized.append)], order="pre")
    return all(map(lambda node: _in_order(node, loops), realized))


def _note(loops: dict, node: tirx.For) -> None:
    loops[node.loop_var] = int(node.extent) if isinstance(node.extent, tirx.IntImm) else 0


def _in_order(realize: s_tir.SBlockRealize, loops: dict) -> bool:
    if all(not str(region.source.ty.dtype).startswith("float") for region in realize.block.writes):
        return True
    axes = [
        (value, int(var.dom.extent))
        for var, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)
        if int(var.iter_type) == tirx.IterVar.CommReduce
    ]
    steps, stride = dict.fromkeys(loops, 0), 1
    for value, extent in reversed(axes):
        found = detect_linear_equation(value, list(loops))
        if not found:
            return False
        for var, step in zip(loops, found, strict=False):
            steps[var] += int(step) * stride
        stride *= extent
    expected = 1
    for var, extent in reversed(loops.items()):
        if extent != 1 and steps[var]:
            if steps[var] != expected:
                return False
            expected *= extent
    return expected == stride
