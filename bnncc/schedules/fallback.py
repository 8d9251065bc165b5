"""Operators that no schedule of ours takes: Relax's own legalization, with the innermost spatial loop vectorised where that is safe."""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import relax, s_tir, te, tirx
from tvm.ir import GenericConst

from bnncc.errors import InternalError
from bnncc.ops import static_shape
from bnncc.schedules.builder import PARALLEL_ELEMENTS
from bnncc.schedules.kernel import Kernel
from bnncc.targets import Variant

__all__ = ["LEGALIZATIONS", "legalized", "without_constants"]


def _cumsum(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Legalize cumsum, which Relax itself leaves to targets that have a library for it: each element sums up what stands before it."""
    shape, dtype = static_shape(call), str(call.ty.dtype)
    axis, exclusive = int(call.attrs.axis) % len(shape), bool(call.attrs.exclusive)

    def prefix_sums(x):
        k = te.reduce_axis((0, shape[axis]), "k")

        def total(*index):
            counts = k < index[axis] if exclusive else k <= index[axis]
            value = x(*index[:axis], k, *index[axis + 1 :]).astype(dtype)
            return te.sum(tirx.Select(counts, value, tirx.const(0, dtype)), axis=k)

        return te.compute(shape, total, "cumsum")

    return builder.call_te(prefix_sums, call.args[0])


LEGALIZATIONS = {"relax.cumsum": _cumsum}
"""What Relax itself does not legalize, or leaves to libraries."""


def legalized(function: relax.Function, variant: Variant) -> Kernel:
    """Build a group by Relax's legalization.

    Raises
    ------
    InternalError
        The legalization left no single PrimFunc over the group's parameters.
    """
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    module = relax.transform.LegalizeOps(LEGALIZATIONS)(module)
    calls = [binding.value for block in module["main"].body.blocks for binding in block.bindings if isinstance(binding.value, relax.Call)]
    if len(calls) != 1 or getattr(calls[0].op, "name", "") != "relax.call_tir":
        found = ", ".join(str(getattr(call.op, "name", call.op)) for call in calls)
        raise InternalError(f"a group that no schedule takes must legalize to one PrimFunc; it became {found}")
    target, args = calls[0].args[0], calls[0].args[1]
    fields = list(args.fields) if isinstance(args, tvm.ir.Tuple) else [args]
    func = without_constants(module[target], fields)
    fields = [field for field in fields if not isinstance(field, GenericConst)]
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


def without_constants(func: tirx.PrimFunc, fields: list[relax.Expr]) -> tirx.PrimFunc:
    """Put constants of one element, which are no parameters of a group, where the function loads them; drop their parameters."""
    values = {
        buffer: tirx.const(field.value.numpy().item(), str(buffer.ty.dtype))
        for field, buffer in zip(fields, func.params)
        if isinstance(field, GenericConst)
    }
    if not values:
        return func

    def read(node):
        """Leave out what a block declares that it reads of a constant."""
        reads = [region for region in node.reads if region.source not in values]
        block = [node.iter_vars, reads, node.writes, node.name_hint, node.body, node.init, node.alloc_buffers, node.match_buffers]
        return s_tir.SBlock(*block, node.annotations) if len(reads) < len(node.reads) else node

    def load(node):
        return values.get(node.source, node)

    body = tvm_ffi.structural_map(func.body, ((tvm.ir.TensorLoad, load), (s_tir.SBlock, read)))
    return tirx.PrimFunc([param for param in func.params if param not in values], body, func.ret_type, func.attrs)


def _vectorised(func: tirx.PrimFunc, variant: Variant) -> tirx.PrimFunc:
    schedule = s_tir.Schedule(tvm.IRModule({"main": func}))
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    for block in blocks:
        loops = schedule.get_loops(block)
        kinds = [str(var.iter_type) for var in schedule.get(block).iter_vars]
        if not loops or len(loops) != len(kinds) or not kinds[-1].endswith("0"):
            continue
        extent = schedule.get(loops[-1]).extent
        lanes = variant.lanes(32)
        if isinstance(extent, tirx.IntImm) and int(extent) % lanes == 0:
            _, inner = schedule.split(loops[-1], [None, lanes])
            schedule.vectorize(inner)
    if len(blocks) == 1:  # threads would have to wait for each other between two
        _share_out(schedule, blocks[0])
    return schedule.mod["main"]


def _share_out(schedule: s_tir.Schedule, block) -> None:
    """Make the outermost loop over places parallel, of an operator large enough."""
    loops = schedule.get_loops(block)
    extents = [schedule.get(loop).extent for loop in loops]
    kinds = [str(var.iter_type) for var in schedule.get(block).iter_vars]
    if not all(isinstance(extent, tirx.IntImm) for extent in extents) or math.prod(map(int, extents)) < PARALLEL_ELEMENTS:
        return
    outer = next((i for i, extent in enumerate(extents) if int(extent) > 1), None)
    if outer is not None and outer < len(kinds) and kinds[outer].endswith("0") and schedule.get(loops[outer]).kind == tirx.ForKind.SERIAL:
        schedule.parallel(loops[outer])
