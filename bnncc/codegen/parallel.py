"""Kernels that several threads run at once: each call computes one part, and each parallel loop gives it its share of the iterations.

What stands outside the parallel loops is done by every call for itself, in memory of its own; so nothing is to be agreed upon but the end of all parts.
Loops of the same extent are shared out the same way: a call meets in the second what it left in its local buffers in the first. The iterations are those of
one thread, so results do not depend on the number of threads.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx

from bnncc.errors import InternalError

__all__ = ["check_parallel", "is_shared", "parallel_parts", "serial"]


def _is_parallel(node) -> bool:
    return isinstance(node, tirx.For) and node.kind == tirx.ForKind.PARALLEL


def _serial(loop: tirx.For, body: tirx.Stmt) -> tirx.For:
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, body, None, loop.annotations)


def is_shared(func: tirx.PrimFunc) -> bool:
    """Tell whether threads may share a function, before it is lowered."""
    return bool(_parallel_loops(func.body))


def serial(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Make the parallel loops serial."""

    def change(loop):
        return _serial(loop, loop.body) if _is_parallel(loop) else loop

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, change)))


def check_parallel(func: tirx.PrimFunc) -> None:
    """Look at a function, before it is lowered, for what its threads would disturb each other by.

    Raises
    ------
    InternalError
        Parallel loops are nested, or something is stored to a parameter outside of them.
    """
    loops = _parallel_loops(func.body)
    inside = 0
    for loop in loops:
        if nested := _parallel_loops(loop.body):
            raise InternalError(f"the parallel loops {loop.loop_var.name} and {nested[0].loop_var.name} of a kernel are nested")
        inside += _stores(loop.body, func)
    if loops and inside != _stores(func.body, func):
        raise InternalError("a kernel with parallel loops stores to a parameter outside of them, where every thread would")


def parallel_parts(func: tirx.PrimFunc) -> tuple[tirx.PrimFunc, list[tirx.Var]]:
    """Share out the parallel loops of a lowered function: of `extent` iterations, part p of n takes those from p * extent / n to (p + 1) * extent / n.

    Returns
    -------
    (PrimFunc, list of Var)
        The function, and the variables p and n that its body reads now; no variables where it has no parallel loop.
    """
    if not _parallel_loops(func.body):
        return func, []
    part, parts = tirx.Var("part", "int32"), tirx.Var("parts", "int32")

    def share(loop):
        if not _is_parallel(loop):
            return loop
        # the bounds stay constants: with others LLVM spilled registers in an inner loop on NEON
        first, end = (loop.min + tirx.truncdiv(p * loop.extent, parts) for p in (part, part + 1))
        return _serial(loop, tirx.IfThenElse(tirx.all(first <= loop.loop_var, loop.loop_var < end), loop.body, None))

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, share))), [part, parts]


def _parallel_loops(body: tirx.Stmt) -> list[tirx.For]:
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(body, (tirx.For, lambda node: found.append(node) if _is_parallel(node) else None))
    return found


def _stores(body: tirx.Stmt, func: tirx.PrimFunc) -> int:
    """Count the stores to parameters."""
    found: list[tirx.BufferStore] = []
    params = set(func.params)
    tvm_ffi.structural_walk(body, (tirx.BufferStore, lambda node: found.append(node) if node.buffer in params else None))
    return len(found)
