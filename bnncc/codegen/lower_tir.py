"""PrimFunc to object code with a plain C ABI: TensorIR's passes without the packed calling convention."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType

from bnncc.codegen.parallel import check_parallel, parallel_parts, serial
from bnncc.codegen.rounding import CONTRACT, round_products
from bnncc.errors import InternalError

__all__ = ["NO_SIMPLIFY", "STACK_BYTES", "LoweredKernel", "build_object", "lower_kernel"]

# A kernel with this attribute is lowered without StmtSimplify and CommonSubexprElim. StmtSimplify substitutes pure let values into their
# uses, which makes deep networks of full adders grow exponentially.
NO_SIMPLIFY = "bnncc.no_simplify"

# What one kernel may keep on the stack in all; larger local buffers become pointers into the caller's workspace.
STACK_BYTES = 64 * 1024


@dataclass(frozen=True)
class LoweredKernel:
    """A PrimFunc whose parameters are raw pointers: inputs, outputs, then scratch buffers.

    Parameters
    ----------
    module : tvm.IRModule
        Holds the one function, ready for ``target.build.llvm``.
    symbol : str
        Its name in the object.
    scratch : tuple of int
        Size in bytes of each scratch buffer, in the order of the parameters.
    parallel : bool
        Whether several threads may call it at once, see `parallel_parts`: it takes two int32 more, the number of the caller's part and how many parts there
        are.
    """

    module: tvm.IRModule
    symbol: str
    scratch: tuple[int, ...]
    parallel: bool = False


@tirx.transform.prim_func_pass(opt_level=0, name="bnncc.RoundProducts")
def _round_products(func, _module, _context):
    return func.with_body(round_products(func.body))


def _is_plain(func: tirx.PrimFunc) -> bool:
    """Tell whether a function is of plain loops over one-dimensional buffers, as our generators write it; TVM's legalization makes blocks."""
    found: list[tirx.AllocBuffer | s_tir.SBlock] = []
    tvm_ffi.structural_walk(func.body, ((tirx.AllocBuffer, s_tir.SBlock), lambda node: found.append(node)))
    if any(isinstance(node, s_tir.SBlock) for node in found):
        return False
    buffers = [*func.params, *(node.buffer for node in found)]
    return all(len(buffer.ty.shape) == 1 and str(buffer.ty.dtype) != "bool" for buffer in buffers)


def _to_plain_loops(source: bool) -> list[tvm.ir.transform.Pass]:
    """Return the passes from blocks on buffers of any shape to plain loops, with indices of 32 bits.

    Plain loops are left out not only as nothing is to be done there. `CompactBufferAllocation` unites the regions of all accesses of a buffer, each with those
    before; that took half of the time of a kernel of a thousand accesses, to find that its buffers have the size that they need. `FlattenBuffer` proves of each
    index that it is one, and leaves it in a form of which `StorageRewrite` does not see that it is of a whole vector.
    """
    s, x = s_tir.transform, tirx.transform
    return [
        s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(),
        *([] if source else [s.CompactBufferAllocation()]),  # it does not see what a function of C is given the address of
        s.LowerMatchBuffer(),
        s.LowerOpaqueBlock(),
        x.FlattenBuffer(),
        x.NarrowDataType(32),
    ]


def _passes(simplify: bool, contract: bool, source: bool, plain: bool) -> list[tvm.ir.transform.Pass]:
    """Return the passes from a scheduled PrimFunc to flat loops, in order."""
    s, x = s_tir.transform, tirx.transform
    return [
        s.CanonicalizeLoop(),
        *([] if plain else _to_plain_loops(source)),
        s.LoopPartition(),
        x.VectorizeLoop(True),
        *([] if source else [x.StorageRewrite()]),  # C compilers share registers and stack themselves, and readers want names
        x.UnrollLoop(),
        s.RenormalizeSplitPattern(),
        *([] if contract else [_round_products]),  # while accumulations still look like one
        *([x.StmtSimplify()] if simplify else []),
        x.RemoveNoOp(),
        s.RewriteUnsafeSelect(),
        *([x.CommonSubexprElim()] if simplify else []),
    ]


def buffer_bytes(buffer: tirx.Buffer) -> int:
    """Return the size of a buffer of constant shape in bytes.

    Raises
    ------
    InternalError
        A dimension is not constant.
    """
    shape = list(buffer.ty.shape)
    if not all(isinstance(dim, (int, tirx.IntImm)) for dim in shape):
        raise InternalError(f"buffer {buffer.name} has the shape {shape}: only constant shapes can be compiled ahead of time")
    element, _, lanes = str(buffer.ty.dtype).partition("x")  # StorageRewrite turns buffers into vectors: uint64x8
    return math.prod(map(int, shape)) * np.dtype(element).itemsize * int(lanes or 1)


def _check_parameters(func: tirx.PrimFunc) -> None:
    for param in func.params:
        if not tirx.is_buffer_var(param):
            raise InternalError(f"parameter {param.name} of a kernel is no buffer; kernels take tensors only")
        buffer_bytes(param)


def _scratch_buffers(body: tirx.Stmt, stack_bytes: int) -> list[tirx.Buffer]:
    """Choose the allocations that leave the stack: the largest first, until the rest fits."""
    found: list[tirx.Buffer] = []
    tvm_ffi.structural_walk(body, (tirx.AllocBuffer, lambda node: found.append(node.buffer)))
    found = [buffer for buffer in found if list(buffer.ty.shape) != [1]]  # a variable, which the compiler keeps in a register
    found.sort(key=buffer_bytes)
    total = 0
    for index, buffer in enumerate(found):
        total += buffer_bytes(buffer)
        if total > stack_bytes:
            return found[index:]
    return []


def lower_kernel(func: tirx.PrimFunc, symbol: str, target: tvm.target.Target, stack_bytes: int = STACK_BYTES) -> LoweredKernel:
    """Lower a scheduled PrimFunc until only loops over flat buffers and raw pointers are left.

    Parameters
    ----------
    func : tvm.tirx.PrimFunc
        Parameters are buffers of constant shape, outputs last.
    symbol : str
        Name of the function in the object code.
    target : tvm.target.Target
        What the intrinsics are lowered for.
    stack_bytes : int
        Local buffers may take so much of the stack; the largest beyond it become scratch.

    Raises
    ------
    InternalError
        A parameter is no buffer, a shape is not constant, or threads would disturb each other.

    Notes
    -----
    Each thread that calls a parallel kernel gives scratch of its own. In C for microcontrollers loops are serial.

    Float products are rounded as written unless they are accumulated (`round_products`) or the kernel has the attribute ``bnncc.contract``.

    Pointers are marked as not aliasing, so the caller must give each call distinct memory for what it writes. No alignment beyond that of
    the element is assumed: on every x86 since AVX an unaligned vector access to an aligned address costs the same, and the buffers of a
    caller need not be aligned then.
    """
    _check_parameters(func)
    check_parallel(func)
    attrs = func.attrs or {}
    simplify, contract = not bool(attrs.get(NO_SIMPLIFY, False)), bool(attrs.get(CONTRACT, False))
    func = (
        func.with_attr("global_symbol", symbol).with_attr("target", target).with_attr("calling_conv", 0).with_attr("tirx.noalias", True)
    )
    if target.kind.name == "c":
        func = serial(func)
    module = tvm.IRModule({symbol: func})
    for step in _passes(simplify, contract, target.kind.name == "c", _is_plain(func)):
        module = step(module)
    func, parts = parallel_parts(module[symbol])

    scratch = _scratch_buffers(func.body, stack_bytes)
    pointers = {buffer: tirx.Var(f"{buffer.name}_p", PointerType(PrimType(str(buffer.ty.dtype)))) for buffer in (*func.params, *scratch)}
    # where the allocation stood, the buffer is declared over its pointer
    body = tvm_ffi.structural_map(
        func.body,
        (tirx.AllocBuffer, lambda node: tirx.DeclBuffer(node.buffer, data=pointers[node.buffer]) if node.buffer in pointers else node),
    )
    declared = [tirx.DeclBuffer(buffer, data=pointers[buffer]) for buffer in func.params]
    func = tirx.PrimFunc([*pointers.values(), *parts], tirx.SeqStmt([*declared, body]), func.ret_type, func.attrs)
    module = tirx.transform.LowerIntrin()(tvm.IRModule({symbol: func}))
    return LoweredKernel(module, symbol, tuple(buffer_bytes(buffer) for buffer in scratch), bool(parts))


def build_object(kernel: LoweredKernel, target: tvm.target.Target, path: str) -> None:
    """Generate the machine code of a lowered kernel into the object file `path`."""
    build = tvm.get_global_func(f"target.build.{target.kind.name}")
    build(kernel.module, target).write_to_file(path, "o")
