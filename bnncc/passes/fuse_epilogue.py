"""FuseEpilogue: an anchor (convolution, dense, pool, data movement) and the elementwise operators behind it become one group, one kernel; so does an average
and what is computed in front of it alone, and a convolution and the pad, or the step from NCHW to NHWC, that makes its image. For processors of little memory
a maximum on bits joins the group that makes the bits.

Groups are made in one walk and their order stays a topological one: an operator joins the latest of the groups it reads, if that group computes a tensor of the
same shape; what it reads from anywhere else is older, so nothing can become cyclic. A tensor that another group reads becomes an output of its own, so a
residual sum leaves its kernel once as float32 for the next shortcut and once as bits for the next convolution. An anchor whose result meets a scale that is
computed after it (a channel gate: pool, dense, sigmoid) moves behind that scale, so that its own epilogue multiplies::

    n = bnn.packed_conv2d(p, w)
    f = astype(n, "float32")                  @R.function(private=True)
    y = add(f, shortcut)             ->       def group(p, w, shortcut, thresholds, flip): ...; return (y, c)
    q = bnn.quantize(y, t, flip)              r = group(p, w, shortcut, thresholds, flip)
    c = bnn.pack(q)                           y = r[0];  c = r[1]
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst, Tuple, TupleGetItem

from bnncc.ops import is_bnn, static_shape
from bnncc.passes.assignment import assign
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Graph, constant, op_name, replace_function, substitute, used_vars
from bnncc.schedules import EPILOGUE_OPS, is_anchor, makes_image, pools_as_made, reads_any_order, stages_image

__all__ = ["fuse_apart", "fuse_epilogue"]


@dataclass
class _Group:
    shape: tuple[int, ...] | None  # of the tensors its operators compute, None: takes no more
    bindings: list = field(default_factory=list)


def _space(binding) -> tuple[int, ...]:
    """Return the shape an elementwise operator runs over: that of the codes where it packs them."""
    return static_shape(binding.value.args[0]) if is_bnn(binding.value, "pack") else static_shape(binding.var)


class _Fuse:
    def __init__(self, mod: tvm.IRModule, function: str, ctx: PassContext, apart: frozenset[str] = frozenset()):
        self.name = function
        self.graph = Graph(mod, function)
        self.groups: list[_Group] = []
        self.group_of: dict[relax.Var, int] = {}
        self.moved: set[relax.Var] = set()
        self.stage_images, self.pool_words = ctx.options.stage_images, ctx.options.pool_words
        self.apart = apart
        self.sites: list[str] = []
        self.counter = 0
        self.repeats = False
        self.functions = relax.BlockBuilder(mod)

    def run(self) -> tvm.IRModule:
        for b in self._where_read(self._behind_their_scales()):
            self._place(b)
        bindings, mapping = [], {}
        for group in filter(lambda g: g.bindings, self.groups):
            self._emit(group, bindings, mapping)
        outputs = [mapping.get(o, o) if isinstance(o, relax.Var) else o for o in self.graph.outputs]
        return replace_function(self.functions.get(), self.name, self.graph, bindings, outputs)

    def _behind_their_scales(self) -> list:
        """Return the bindings with each anchor, and the chain of elementwise operators on it, moved in front of where the chain first meets a broadcast scale.

        Every member of the chain has one reader, the next member, so nothing between reads what moves; the order stays a topological one.
        """
        order = {b.var: b for b in self.graph.bindings}
        for anchor in self.graph.bindings:
            if not isinstance(anchor.value, relax.Call) or isinstance(anchor.var.ty, relax.TupleType) or not is_anchor(anchor.value):
                continue
            place = {var: i for i, var in enumerate(order)}
            chain = [anchor.var]
            while (reader := self._only_reader(chain[-1], order)) is not None:
                late = [v for v in used_vars(reader.value) if place.get(v, -1) > place[anchor.var] and v not in chain]
                if any(np.prod(static_shape(v)) < np.prod(_space(reader)) for v in late):
                    before = [v for v in order if place[v] < place[reader.var] and v not in chain]
                    after = [v for v in order if place[v] >= place[reader.var]]
                    order = {v: order[v] for v in (*before, *chain, *after)}
                    break
                chain.append(reader.var)
        return list(order.values())

    def _where_read(self, order: list) -> list:
        """Return the bindings with what is computed from tensors in memory for one elementwise operator alone moved in front of that: terms of a sum join its
        kernel."""
        known, waiting, placed = {b.var: b for b in order}, set(), []
        for b in order:
            from_memory = all(v in waiting or not self._computes(self.graph.value(v)) for v in used_vars(b.value))
            if op_name(b.value) in EPILOGUE_OPS and not is_bnn(b.value, "pack") and from_memory and self._only_reader(b.var, known) is not None:
                waiting.add(b.var)
                self.moved.add(b.var)
                continue
            self._release(b, known, waiting, placed)
        return placed

    def _release(self, b, known: dict, waiting: set, placed: list) -> None:
        for v in used_vars(b.value):
            if v in waiting:
                waiting.remove(v)
                self._release(known[v], known, waiting, placed)
        placed.append(b)

    @staticmethod
    def _computes(value) -> bool:
        """Tell whether elementwise operators may join the group of `value`."""
        return isinstance(value, relax.Call) and not is_bnn(value, "gather_channels") and (op_name(value) in EPILOGUE_OPS or is_anchor(value))

    def _only_reader(self, var, bindings):
        """Return the elementwise operator that alone reads `var` and computes a tensor of its shape, or None."""
        users = self.graph.users(var)
        if self.graph.is_output(var) or len(users) != 1 or users[0] not in bindings:
            return None
        reader = bindings[users[0]]
        elementwise = op_name(reader.value) in EPILOGUE_OPS and not isinstance(reader.var.ty, relax.TupleType)
        return reader if elementwise and _space(reader) == static_shape(var) else None

    def _place(self, b):
        name = op_name(b.value)
        if name in EPILOGUE_OPS and not isinstance(b.var.ty, relax.TupleType):
            if is_bnn(b.value, "repeat_channels") and self._repeats(b):
                return
            latest = max((self.group_of[v] for v in used_vars(b.value) if v in self.group_of), default=None)
            if latest is not None and self.groups[latest].shape == _space(b):
                self._join(latest, b)
                return
            last = len(self.groups) - 1
            if b.var in self.moved and last >= 0 and self.groups[last].shape == _space(b) and (latest is None or latest < last):
                self._join(last, b)  # its reader is likely to follow
                return
            self.groups.append(_Group(_space(b)))
        elif isinstance(b.value, relax.Call) and not isinstance(b.var.ty, relax.TupleType) and is_anchor(b.value):
            prologue = self._prologue(b) if name == "relax.mean" else None
            if prologue is not None:
                self.groups[prologue].shape = static_shape(b.var)
                self._join(prologue, b)
                return
            if self.pool_words and f"maximum {b.var.name}" not in self.apart and self._pools(b):
                self.sites.append(f"maximum {b.var.name}")
                return
            self.groups.append(_Group(static_shape(b.var)))
            stages = (self.stage_images and stages_image(b.value)) or (reads_any_order(b.value) and self._is_transposed(b.value.args[0]))
            if stages and f"image of {b.var.name}" not in self.apart and self._take_image(b.value.args[0], b.var):
                self.sites.append(f"image of {b.var.name}")
        else:
            self.groups.append(_Group(None))
        self._join(len(self.groups) - 1, b)

    def _pools(self, b) -> bool:
        """Let the group whose words alone the maximum `b` reads end with it, if it ends with packing them and returns nothing else."""
        words = b.value.args[0]
        index = self.group_of.get(words)
        if index is None or not pools_as_made(b.value) or not is_bnn(self.graph.value(words), "pack"):
            return False
        inside = {m.var for m in self.groups[index].bindings} | {b.var}
        if any(self.graph.is_output(v) or any(u not in inside for u in self.graph.users(v)) for v in inside - {b.var}):
            return False
        self.groups[index].shape = (-1,)  # of no tensor: it takes no more
        self._join(index, b)
        return True

    def _repeats(self, b) -> bool:
        """Let the group whose result `b` repeats go on in the repeated channels, if nothing else reads what it has computed."""
        index = self.group_of.get(b.value.args[0])
        group = self.groups[index] if index is not None else None
        if group is None or group.shape != static_shape(b.value.args[0]):
            return False
        inside = {m.var for m in group.bindings} | {b.var}
        if any(self.graph.is_output(v) or any(u not in inside for u in self.graph.users(v)) for v in inside - {b.var}):
            return False
        group.shape = static_shape(b.var)
        self._join(index, b)
        return True

    def _prologue(self, anchor) -> int | None:
        """Return the group of elementwise operators that only `anchor`, which reads each element once, needs: evaluated there, no tensor of theirs is
        stored."""
        index = self.group_of.get(anchor.value.args[0])
        members = self.groups[index].bindings if index is not None else []
        needed = {m.var for m in members} | {anchor.var}
        plain = all(op_name(m.value) in EPILOGUE_OPS and not is_bnn(m.value, "pack") for m in members)
        only = all(not self.graph.is_output(m.var) and all(u in needed for u in self.graph.users(m.var)) for m in members)
        return index if members and plain and only else None

    def _is_transposed(self, image) -> bool:
        return op_name(self.graph.value(image)) == "relax.permute_dims"

    def _take_image(self, image, reader) -> bool:
        """Move what only `reader` needs of the way to its image, pads and the step to NHWC, from groups of their own into its group, the last one; tell
        whether there is any."""
        value = self.graph.value(image)
        alone = image in self.group_of and len(self.groups[self.group_of[image]].bindings) == 1
        if not alone or not makes_image(value) or self.graph.is_output(image) or self.graph.users(image) != [reader]:
            return False
        if op_name(value) != "relax.permute_dims":
            self._take_image(value.args[0], image)
        (binding,) = self.groups[self.group_of[image]].bindings
        self.groups[self.group_of[image]] = _Group(None)
        self._join(len(self.groups) - 1, binding)
        return True

    def _join(self, index, b):
        self.groups[index].bindings.append(b)
        self.group_of[b.var] = index

    def _emit(self, group: _Group, bindings: list, mapping: dict):
        """Write a group's call, or the operator itself where it is no kernel (a reshape, a field of a tuple)."""
        first = group.bindings[0]
        if group.shape is None and (not isinstance(first.value, relax.Call) or op_name(first.value) in ("relax.reshape", "relax.call_tir")):
            value = substitute(first.value, mapping)
            var = relax.DataflowVar(first.var.name, first.var.ty)
            bindings.append(relax.VarBinding(var, relax.BlockBuilder().normalize(value)))
            mapping[first.var] = var
            return
        inside = {b.var for b in group.bindings}
        leaving = [b.var for b in group.bindings if self.graph.is_output(b.var) or any(u not in inside for u in self.graph.users(b.var))]
        params, arguments, local = [], [], {}
        body = []
        self.repeats = group.shape is None  # Relax's own legalization wants a parameter for every operand, even if two are the same
        for b in group.bindings:
            value = self._localize(b.value, local, params, arguments)
            var = relax.DataflowVar(b.var.name, b.var.ty) if b.var not in leaving else relax.Var(b.var.name, b.var.ty)
            local[b.var] = var
            body.append(relax.VarBinding(var, relax.BlockBuilder().normalize(value)))
        results = [local[v] for v in leaving]
        result = results[0] if len(results) == 1 else Tuple(results)
        seq = relax.BlockBuilder().normalize(relax.SeqExpr([relax.DataflowBlock(body)], result))
        ty = results[0].ty if len(results) == 1 else relax.TupleType([r.ty for r in results])
        constants = [i for i, a in enumerate(arguments) if not isinstance(a, relax.Var)]
        function = relax.Function(params, seq, ty, is_pure=True).with_attrs({"Primitive": 1, "bnncc.const_params": constants})
        self.counter += 1
        gvar = self.functions.add_func(function, f"group_{self.counter}")
        call = relax.Call(gvar, [mapping.get(a, a) if isinstance(a, relax.Var) else a for a in arguments], ty_args=[])
        if len(leaving) == 1:
            var = relax.DataflowVar(leaving[0].name, leaving[0].ty)
            bindings.append(relax.VarBinding(var, call))
            mapping[leaving[0]] = var
            return
        results_var = relax.DataflowVar(f"{leaving[-1].name}_results", ty)
        bindings.append(relax.VarBinding(results_var, call))
        for i, v in enumerate(leaving):
            var = relax.DataflowVar(v.name, v.ty)
            bindings.append(relax.VarBinding(var, relax.BlockBuilder().normalize(TupleGetItem(results_var, i))))
            mapping[v] = var

    def _localize(self, expr, local, params, arguments):
        """Return `expr` on the group's own variables; what comes from outside becomes a parameter, except scalar constants."""
        if isinstance(expr, relax.Var) or (isinstance(expr, GenericConst) and constant(expr).size > 1):
            if expr not in local or self.repeats:
                local[expr] = relax.Var(f"p{len(params)}", expr.ty)
                params.append(local[expr])
                arguments.append(expr)
            return local[expr]
        if isinstance(expr, relax.Call):
            return relax.Call(expr.op, [self._localize(a, local, params, arguments) for a in expr.args], expr.attrs, expr.ty_args)
        if isinstance(expr, Tuple):
            return Tuple([self._localize(f, local, params, arguments) for f in expr.fields])
        return expr


def fuse_apart(mod: tvm.IRModule, ctx: PassContext, apart: frozenset[str]) -> tuple[tvm.IRModule, tuple[str, ...]]:
    """Cut `main` into groups; what stands at the places `apart` gets a kernel of its own instead of joining one.

    Returns
    -------
    (IRModule, tuple of str)
        The groups, and the places where something joined a kernel that could have one of its own: an image's pad or order of axes, a maximum on words.
    """
    fuse = _Fuse(mod, "main", ctx, apart)
    return fuse.run(), tuple(fuse.sites)


def fuse_epilogue(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Cut `main` into groups, each a private Relax function that becomes one kernel; by measured times where `ctx` knows any."""
    ctx.fuse = functools.partial(fuse_apart, mod, ctx)
    if ctx.measured is None:
        return ctx.fuse(frozenset())[0]
    fused, ctx.assignment = assign(ctx.fuse, ctx.measured)
    return fused
