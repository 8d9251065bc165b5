"""Operators that no schedule of ours takes: Relax's own legalization, with the innermost spatial loop vectorised where that is safe."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import relax, s_tir, tirx

from bnncc.errors import InternalError
from bnncc.schedules.kernel import Kernel
from bnncc.targets import Variant

__all__ = ["legalized"]


def legalized(function: relax.Function, variant: Variant) -> Kernel:
    """Build a group by Relax's legalization.

    Raises
    ------
    InternalError
        The legalization left no single PrimFunc over the group's parameters.
    """
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    module = relax.transform.LegalizeOps()(module)
    calls = [binding.value for block in module["main"].body.blocks for binding in block.bindings if isinstance(binding.value, relax.Call)]
    if len(calls) != 1 or getattr(calls[0].op, "name", "") != "relax.call_tir":
        found = ", ".join(str(getattr(call.op, "name", call.op)) for call in calls)
        raise InternalError(f"a group that no schedule takes must legalize to one PrimFunc; it became {found}")
    target, args = calls[0].args[0], calls[0].args[1]
    fields = list(args.fields) if isinstance(args, tvm.ir.Tuple) else [args]
    func = module[target]
    order = {param: i for i, param in enumerate(function.params)}
    if set(fields) != set(order):
        raise InternalError(f"{target.name_hint}: the legalized function does not read every parameter of its group, or reads something else")
    inputs: dict[int, tirx.Buffer] = {}
    same = {}
    for field, buffer in zip(fields, func.params):
        first = inputs.setdefault(order[field], buffer)
        if first is not buffer:
            # the operator reads one tensor twice: it is one pointer then
            same[buffer] = first
    params = [inputs[i] for i in range(len(inputs))] + list(func.params[len(fields) :])
    body = tvm_ffi.structural_map(func.body, (tirx.Var, lambda var: same.get(var, var))) if same else func.body
    func = tirx.PrimFunc(params, body, func.ret_type, func.attrs).with_attr("tirx.noalias", True)
    return Kernel(_vectorised(func, variant), {}, f"Relax's legalization of {target.name_hint}")


def _vectorised(func: tirx.PrimFunc, variant: Variant) -> tirx.PrimFunc:
    schedule = s_tir.Schedule(tvm.IRModule({"main": func}))
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        loops = schedule.get_loops(block)
        kinds = [str(var.iter_type) for var in schedule.get(block).iter_vars]
        if not loops or len(loops) != len(kinds) or not kinds[-1].endswith("0"):
            continue
        extent = schedule.get(loops[-1]).extent
        lanes = variant.lanes(32)
        if isinstance(extent, tirx.IntImm) and int(extent) % lanes == 0:
            _, inner = schedule.split(loops[-1], [None, lanes])
            schedule.vectorize(inner)
    return schedule.mod["main"]
