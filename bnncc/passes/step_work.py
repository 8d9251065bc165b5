"""What each kernel call of a fused module has to do: multiply-accumulates, bytes in and out, and the ONNX tensors that it makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import element_count, nbytes_of, static_shape
from bnncc.passes.context import LayerRow, PassContext
from bnncc.passes.rewrite import Graph, op_name

__all__ = ["StepWork", "kernel_calls", "layers_of", "step_work"]


@dataclass(frozen=True)
class StepWork:
    """One kernel call.

    Parameters
    ----------
    writes : tuple of str
        ONNX tensors that it makes; where there is none, the compiler's own name.
    macs : int
        Multiply-accumulates of its layer; 0 where it has none.
    moved_bytes : int
        Feature maps that it reads and writes; weights not counted.
    written_bytes : int
        Those that it writes alone.
    """

    writes: tuple[str, ...]
    macs: int
    moved_bytes: int
    written_bytes: int


def step_work(fused: tvm.IRModule, ctx: PassContext) -> list[StepWork]:
    """Return the work of the kernel calls of ``main``, in order.

    Parameters
    ----------
    fused : IRModule
        After `fuse_epilogue`.
    ctx : PassContext
    """
    steps = []
    for b, written in kernel_calls(fused):
        stored = sum(map(nbytes_of, written))
        moved = stored + sum(nbytes_of(a) for a in b.value.args if isinstance(a, relax.Var))
        macs = sum(_macs(inner) for inner in Graph(fused, b.value.op.name_hint).bindings)
        steps.append(StepWork(tuple(ctx.onnx_name(v.name) for v in written), macs, moved, stored))
    return steps


def kernel_calls(fused: tvm.IRModule) -> list[tuple[relax.VarBinding, list[relax.Var]]]:
    """Return the kernel calls of ``main`` in order, each with the tensors that it writes."""
    graph = Graph(fused)
    calls = [b for b in graph.bindings if isinstance(b.value, relax.Call) and isinstance(b.value.op, tvm.ir.GlobalVar)]
    return [(b, graph.users(b.var) if isinstance(b.var.ty, relax.TupleType) else [b.var]) for b in calls]


def layers_of(fused: tvm.IRModule, ctx: PassContext) -> dict[str, list[LayerRow]]:
    """Return the layers that each kernel call computes, under the name of the first tensor that it writes."""
    found = {}
    for call, written in kernel_calls(fused):
        places = [ctx.sums[inner.var.name] for inner in Graph(fused, call.value.op.name_hint).bindings if inner.var.name in ctx.sums]
        found[written[0].name] = [ctx.layers[place] for place in dict.fromkeys(places)]
    return {name: layers for name, layers in found.items() if layers}


def _macs(binding: relax.VarBinding) -> int:
    name = op_name(binding.value)
    if name not in _INPUTS:
        return 0
    outputs = element_count(binding.var)
    return outputs * _INPUTS[name](binding.value, static_shape(binding.value.args[1]))


_INPUTS = {  # inputs of one output: of the operator and the shape of its weights
    "relax.nn.conv2d": lambda call, weights: int(np.prod(weights[:3])),  # HWIO
    "relax.matmul": lambda call, weights: weights[-2],
    "relax.bnn.conv2d": lambda call, weights: int(np.prod(weights[1:])),  # OHWI
    "relax.bnn.signed_sum_conv2d": lambda call, weights: int(np.prod(weights[1:])),
    "relax.bnn.dense": lambda call, weights: weights[-1],
    "relax.bnn.packed_conv2d": lambda call, weights: weights[1] * weights[2] * (int(call.attrs.channels) // int(call.attrs.groups)),
    "relax.bnn.packed_dense": lambda call, weights: int(call.attrs.channels),
    "relax.bnn.plane_conv2d": lambda call, weights: weights[1] * weights[2] * (int(call.attrs.channels) // int(call.attrs.groups)),
    "relax.bnn.plane_dense": lambda call, weights: int(call.attrs.channels),
    "relax.bnn.sign_conv2d": lambda call, weights: weights[1] * weights[2] * (static_shape(call.args[0])[3] // int(call.attrs.groups)),
    "relax.bnn.sign_dense": lambda call, weights: static_shape(call.args[0])[1],
}
