"""LowerGroups: every group becomes the PrimFunc that the target's schedules generate for it, and its constants move into the order that kernel reads.

Groups that are structurally equal share a kernel::

    y = group_3(p, w, t)     ->     y = R.call_tir(kernel_2, (p, w', t), out_ty)
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GlobalVar, Tuple

from bnncc.passes.rewrite import Builder, Rewriter, const, constant
from bnncc.schedules import Decisions, Kernel, build_kernel
from bnncc.targets import Variant

__all__ = ["Decide", "lower_groups"]

Decide = Callable[[relax.Function], tuple[Decisions, str]]


class _Kernels:
    """Kernels made so far, one for each distinct group."""

    def __init__(self, variant: Variant, decide: Decide | None):
        self.variant, self.decide = variant, decide
        self.known: dict[int, list[tuple[relax.Function, Kernel, GlobalVar]]] = {}
        self.builder = relax.BlockBuilder()  # types the names of functions, and holds equal ones once
        self.notes: dict[str, str] = {}

    def kernel_of(self, group: relax.Function) -> tuple[Kernel, GlobalVar]:
        bucket = self.known.setdefault(tvm_ffi.structural_hash(group, map_free_vars=True), [])
        for other, kernel, gvar in bucket:
            if tvm_ffi.structural_equal(group, other, map_free_vars=True):
                return kernel, gvar
        decisions, remark = self.decide(group) if self.decide else ({}, "")
        kernel = build_kernel(group, self.variant, decisions)
        gvar = self.builder.add_func(kernel.func, "kernel")
        self.notes[gvar.name_hint] = f"{kernel.note}; {remark}" if remark else kernel.note
        bucket.append((group, kernel, gvar))
        return kernel, gvar


class _Lower(Rewriter):
    def __init__(self, mod, function, kernels: _Kernels):
        super().__init__(mod, function)
        self.kernels = kernels

    def rewrite(self, var, value, builder: Builder):
        if not isinstance(value, relax.Call) or not isinstance(value.op, GlobalVar):
            return None
        group = self.mod[value.op]
        kernel, gvar = self.kernels.kernel_of(group)
        args = list(value.args)
        for i in kernel.relayout:
            args[i] = const(kernel.arranged(i, lambda j: constant(value.args[j])))
        ty = group.ret_ty if hasattr(group, "ret_ty") else group.body.ty
        out = list(ty.fields) if isinstance(ty, relax.TupleType) else ty
        return relax.op.call_tir(gvar, Tuple(args), out)


def lower_groups(
    mod: tvm.IRModule, variant: Variant, entries: tuple[str, ...] = ("main",), decide: Decide | None = None
) -> tuple[tvm.IRModule, dict[str, str]]:
    """Generate the kernels of one variant.

    Parameters
    ----------
    mod : IRModule
        After `fuse_epilogue`.
    variant : Variant
    entries : tuple of str
        Functions whose group calls to lower; kernels are shared among them.
    decide : callable, optional
        A group to what was decided for its kernel, and a remark for its note, which may be empty.

    Returns
    -------
    mod : IRModule
        The entries, of call_tir only, and PrimFuncs.
    notes : dict of str to str
        Kernel name to what its schedule says it chose.
    """
    kernels = _Kernels(variant, decide)
    lowered = {GlobalVar(entry): _Lower(mod, entry, kernels).run()[entry] for entry in entries}
    return tvm.IRModule({**lowered, **dict(kernels.builder.get().functions_items())}), kernels.notes
