"""The compiled program as a reader sees it: kernel calls with the operators each one fuses, and the feature maps that live in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import relax

from bnncc.errors import InternalError
from bnncc.ops import dtype_of, element_count, nbytes_of, static_shape
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Graph, op_name
from bnncc.passes.step_work import kernel_calls

__all__ = ["FeatureMap", "Held", "Operator", "PackedMap", "Step", "feature_maps", "packed_maps", "steps_of"]

_LAYERS = frozenset("relax.nn.conv2d relax.matmul relax.bnn.packed_conv2d relax.bnn.packed_dense relax.bnn.plane_conv2d relax.bnn.plane_dense".split())
_UNCOUNTED = frozenset("relax.reshape relax.astype".split())  # neither computes a new number


@dataclass(frozen=True)
class Operator:
    """An operator inside a kernel: its name, the dtype and number of elements of what it makes, and whether that is float arithmetic."""

    name: str
    dtype: str
    elements: int
    is_float: bool
    is_layer: bool


@dataclass(frozen=True)
class Held:
    """A tensor as a kernel finds it in memory, or leaves it there.

    Parameters
    ----------
    tensor : str
        The ONNX tensor; where there is none, the compiler's own name.
    type : str
        ``1-bit``, ``1-bit and 0`` (what a plain Sign leaves: two planes), ``k-bit`` (k planes), or a dtype.
    shape : tuple of int
        Channels first, without a batch of 1; of packed tensors the channels that the words hold.
    nbytes : int
    """

    tensor: str
    type: str
    shape: tuple[int, ...]
    nbytes: int

    @classmethod
    def of(cls, var: relax.Var, ctx: PassContext) -> Held:
        """Describe a variable of ``main``."""
        dtype, (*outer, last), words = dtype_of(var), static_shape(var) or (1,), ctx.packed.get(var.name)
        kind = dtype
        if words is not None and dtype.startswith("uint"):
            kind = f"{words.planes}-bit" if words.step else "1-bit and 0" if words.planes == 2 else "1-bit"
            last = int(words.channels)
        batch, *space = outer or [1]
        view = ctx.tensors.get(var.name)
        plain = view is not None and view.perm is None and view.split is None and last == static_shape(var)[-1]  # in the order of the model already
        shape = (*space, last) if plain else (last, *space)
        return cls(ctx.onnx_name(var.name), kind, (*([batch] if batch > 1 else []), *shape), nbytes_of(var))


@dataclass(frozen=True)
class Step:
    """A kernel call.

    Parameters
    ----------
    kernel, note : str
        Its name, shared with calls of the same shape, and what its schedule chose.
    writes : tuple of str
        ONNX tensors that it makes; where there is none, the compiler's own name.
    shapes : tuple of tuple of int
    dtypes : tuple of str
        Of what it writes, as it lies in memory: channels last, words for bits.
    operators : tuple of Operator
        What was fused into it, in order.
    inputs, outputs : tuple of Held
        Tensors that it reads (no constants) and writes.
    """

    kernel: str
    note: str
    writes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[Held, ...] = ()
    outputs: tuple[Held, ...] = ()


@dataclass(frozen=True)
class FeatureMap:
    """A tensor as it lies in memory.

    Parameters
    ----------
    tensor : str
        The ONNX tensor; where there is none, the compiler's own name.
    kind : str
        ``bits`` (words), ``integers`` or ``float``.
    dtype : str
    shape : tuple of int
    nbytes : int
    """

    tensor: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @classmethod
    def of(cls, var: relax.Var, ctx: PassContext, *more) -> FeatureMap:
        """Describe a variable of ``main``; `more` are the parameters that a kind of map adds."""
        dtype = dtype_of(var)
        kind = "bits" if ctx.are_words(var.name, dtype) else "float" if dtype.startswith("float") else "integers"
        return cls(ctx.onnx_name(var.name), kind, dtype, static_shape(var), nbytes_of(var), *more)


@dataclass(frozen=True)
class PackedMap(FeatureMap):
    """A feature map in words.

    Parameters
    ----------
    channels, planes : int
        Two planes hold -1, 0 and +1, one -1 and +1.
    float_bytes : int
        The size of the same map as float32.
    """

    channels: int
    planes: int
    float_bytes: int


def steps_of(fused: tvm.IRModule, ctx: PassContext, kernels: Sequence[tuple[str, str]]) -> list[Step]:
    """Return the kernel calls of ``main``.

    Parameters
    ----------
    fused : IRModule
        After `fuse_epilogue`.
    ctx : PassContext
    kernels : sequence of (str, str)
        Name and note of the kernel of each call, in order.

    Raises
    ------
    InternalError
        There are more or fewer kernels than calls.
    """
    calls = kernel_calls(fused)
    if len(calls) != len(kernels):
        raise InternalError(f"{len(calls)} groups became {len(kernels)} kernel calls; each should become one.")
    steps = []
    for (b, written), (kernel, note) in zip(calls, kernels, strict=True):
        names = tuple(ctx.onnx_name(v.name) for v in written)
        shapes, dtypes = tuple(static_shape(v) for v in written), tuple(dtype_of(v) for v in written)
        read = dict.fromkeys(a for a in b.value.args if isinstance(a, relax.Var))
        inputs, outputs = (tuple(Held.of(v, ctx) for v in held) for held in (read, written))
        steps.append(Step(kernel, note, names, shapes, dtypes, _operators(fused, b.value.op.name_hint), inputs, outputs))
    return steps


def _operators(fused: tvm.IRModule, group: str) -> tuple[Operator, ...]:
    found = []
    for b in Graph(fused, group).bindings:
        name = op_name(b.value)
        if name is None or not isinstance(b.var.ty, relax.TensorType):
            continue
        dtype = dtype_of(b.var)
        layer = name in _LAYERS
        is_float = dtype.startswith("float") and name not in _UNCOUNTED and not name.startswith("relax.bnn.")
        shown = name.removeprefix("relax.").removeprefix("nn.").removeprefix("bnn.")
        found.append(Operator(shown, dtype, element_count(b.var), is_float, layer))
    return tuple(found)


def packed_maps(fused: tvm.IRModule, ctx: PassContext) -> list[PackedMap]:
    """Return the feature maps of ``main`` that live in words, in order of computation."""
    maps = []
    for b in Graph(fused).bindings:
        held = ctx.packed.get(b.var.name)
        if held is None or not isinstance(b.var.ty, relax.TensorType) or not dtype_of(b.var).startswith("uint"):
            continue
        pixels = element_count(b.var) // static_shape(b.var)[-1]
        maps.append(PackedMap.of(b.var, ctx, int(held.channels), int(held.planes), 4 * pixels * int(held.channels)))
    return maps


def feature_maps(fused: tvm.IRModule, ctx: PassContext) -> list[FeatureMap]:
    """Return what lies in memory between the kernels of ``main``, in order of computation: neither inputs nor outputs, views of a tensor not counted again."""
    graph, maps = Graph(fused), []
    for b in graph.bindings:
        made = b.value.tuple_value if isinstance(b.value, tvm.ir.TupleGetItem) else b.var
        call = graph.value(made)
        computed = isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.GlobalVar)
        if not computed or not isinstance(b.var.ty, relax.TensorType) or not graph.users(b.var):
            continue
        maps.append(FeatureMap.of(b.var, ctx))
    return maps
