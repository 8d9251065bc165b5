"""Pointers in lowered loops: which are written through, and which go on from turn to turn, so that C can move them instead of computing them again."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import sym, tirx

__all__ = ["walking_pointers", "written_pointers"]

_analyzer = sym.Analyzer()


def written_pointers(body) -> set:
    """Return the pointers of buffers that are stored to."""
    pointers, stored = {}, []
    tvm_ffi.structural_walk(
        body, [(tirx.DeclBuffer, lambda node: pointers.update({node.buffer: node.data})), (tirx.BufferStore, lambda node: stored.append(node))]
    )
    return {pointers[store.buffer] for store in stored if store.buffer in pointers}


def walking_pointers(loop: tirx.For) -> tuple[object, list[tuple]]:
    """Split off the pointers of a loop that go on by a constant number of elements in every turn: body without them, (pointer, first element, step).

    A pointer that is moved takes one addition a turn and one register; compilers that are given an index, on few registers, compute it again.
    """
    statements = list(loop.body.seq) if isinstance(loop.body, tirx.SeqStmt) else [loop.body]
    known, inside, kept, found = {}, set(), [], []
    for s in statements:
        if isinstance(s, tirx.Bind) and not isinstance(s.var.ty, tvm.ir.PointerType):
            known[s.var] = _substitute(s.value, known)
        elif isinstance(s, tirx.AllocBuffer | tirx.DeclBuffer):
            inside.add(s.buffer)
        elif isinstance(s, tirx.Bind) and isinstance(s.value, tvm.ir.Call) and s.value.op.name == "tirx.address_of":
            (element,) = s.value.args
            index = _substitute(element.indices[0], known)
            moved = [_substitute(index, {loop.loop_var: value}) for value in (loop.loop_var + 1, loop.min)]
            step = _analyzer.simplify(moved[0] - index)
            if isinstance(step, tirx.IntImm) and int(step) and element.source not in inside and not _loads(index):
                found.append((s.var, tirx.BufferLoad(element.source, [_analyzer.simplify(moved[1])]), int(step)))
                continue
        kept.append(s)
    kept = _without_idle(kept) if found else kept
    return tirx.SeqStmt(kept) if len(kept) > 1 else kept[0], found


def _without_idle(statements: list) -> list:
    """Leave out numbers that only pointers were computed from."""
    kept: list = []
    read: set = set()
    for s in reversed(statements):
        if isinstance(s, tirx.Bind) and not isinstance(s.var.ty, tvm.ir.PointerType) and s.var not in read:
            continue
        tvm_ffi.structural_walk(s, (tirx.Var, read.add))
        kept.append(s)
    return kept[::-1]


def _substitute(expr, values: dict):
    return tvm_ffi.structural_map(expr, (tirx.Var, lambda var: values.get(var, var)))


def _loads(expr) -> bool:
    """Tell whether an expression reads memory, which may change from turn to turn."""
    found: list = []
    tvm_ffi.structural_walk(expr, (tvm.ir.TensorLoad, lambda node: found.append(node)))
    return bool(found)
