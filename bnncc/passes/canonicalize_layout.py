"""Bring image tensors into NHWC and drop the transposes, reshapes and channel shuffles that only renamed axes.

Before::

    lv = R.nn.conv2d(x, w, data_layout="NCHW", kernel_layout="OIHW")
    lv1 = R.add(lv, const of shape (1, C, 1, 1))
    lv2 = R.permute_dims(lv1, (0, 2, 3, 1))

After::

    x_1 = R.permute_dims(x, (0, 2, 3, 1))
    lv = R.nn.conv2d(x_1, w', data_layout="NHWC", kernel_layout="HWIO")
    lv1 = R.add(lv, const of shape (C,))

Every value is a variable plus a `Layout`; reshape and permute_dims change the layout alone, and a value moves only where an operator needs an order that it
does not have. A variable keeps its name, and `PassContext.tensors` says in which order it now holds its ONNX tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import relax
from tvm.ir import GenericConst, Tuple, TupleGetItem

from bnncc.errors import InternalError
from bnncc.ops.registry import static_shape
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.layout import Layout
from bnncc.passes.layout_axes import AXIS_RULES
from bnncc.passes.layout_elementwise import ELEMENTWISE_RULES
from bnncc.passes.layout_images import IMAGE_RULES, wants_nhwc
from bnncc.passes.layout_values import Mover, Value
from bnncc.passes.rewrite import Builder, Graph, op_name, replace_function

__all__ = ["canonicalize_layout"]

RULES = {**ELEMENTWISE_RULES, **AXIS_RULES, **IMAGE_RULES}


def canonicalize_layout(mod: tvm.IRModule, ctx: PassContext) -> tvm.IRModule:
    """Bring ``main`` into NHWC.

    Parameters
    ----------
    mod : IRModule
        As imported: the ONNX layouts, straight-line.
    ctx : PassContext
        `tensors` is rewritten to say how each variable of the result holds its ONNX tensor.

    Returns
    -------
    IRModule
        The same inputs and outputs in the same order and shape.

    Raises
    ------
    InternalError
        The module is not straight-line, or a rule of this pass built something that does not type-check.
    """
    return Canonicalizer(mod, ctx).run()


class Canonicalizer:
    """State of one run: what stands for each variable of the module as it came."""

    def __init__(self, mod: tvm.IRModule, ctx: PassContext):
        self.mod, self.ctx = mod, ctx
        self.graph = Graph(mod)
        self._views = dict(ctx.tensors)
        params = {p.name for p in self.graph.params}
        self._free_names = {b.var.name for b in self.graph.bindings}
        self.builder = Builder(params | self._free_names)
        self.mover = Mover(self.bind)
        self.values: dict[relax.Var, Value | list[Callable[[relax.Var], Value]]] = {}
        # of a tuple, what binds an item of it to the variable that takes it out

    def run(self) -> tvm.IRModule:
        for param in self.graph.params:
            if not isinstance(param.ty, relax.TensorType):
                raise InternalError(f"The parameter {param.name} is no tensor.")
            value = Value(param, Layout.plain(static_shape(param)), param.name)
            self.values[param] = self.mover.convert(value, value.layout.ordered((0, 2, 3, 1))) if wants_nhwc(self.graph, param) else value
        for binding in self.graph.bindings:
            self.values[binding.var] = self._binding(binding.var, binding.value)
        outputs = [self.mover.plain(self.value(o)) for o in self.graph.outputs]
        mod = replace_function(self.mod, "main", self.graph, self.builder.bindings, outputs)
        left = Graph(mod)
        names = {p.name for p in left.params} | {b.var.name for b in left.bindings}
        for name in [n for n in self.ctx.tensors if n not in names]:
            del self.ctx.tensors[name]
        return mod

    def value(self, expr: relax.Expr) -> Value:
        """Return what stands for a tensor argument."""
        if isinstance(expr, GenericConst):
            return Value(expr, Layout.plain(static_shape(expr)), "constant")
        value = self.values[expr]
        if isinstance(value, list):
            raise InternalError(f"canonicalize_layout: the tuple {expr.name} is used whole; its items are what an imported module uses.")
        return value

    def bind(self, expr: relax.Expr, name: str, layout: Layout | None) -> relax.Var:
        """Bind the value of variable `name` in this layout, under its own name where that is free; with None, bind a step on the way."""
        if layout is None:
            return self.builder.emit(expr, name)
        if name in self._free_names:
            self._free_names.remove(name)
            var = self.builder.bind(expr, name)
        else:
            var = self.builder.emit(expr, name)
        if static_shape(var) != layout.stored_shape:
            raise InternalError(f"canonicalize_layout: {op_name(expr)} for {name} gives {static_shape(var)}, its layout says {layout.stored_shape}.")
        self._note(var.name, name, layout)
        return var

    def _note(self, var_name: str, name: str, layout: Layout) -> None:
        view = self._views.get(name)
        if view is None or view.perm is not None or view.split is not None:
            self.ctx.tensors.pop(var_name, None)
            return
        perm = layout.perm()
        trivial = perm is not None and perm == tuple(range(len(perm)))
        if perm is not None:
            self.ctx.tensors[var_name] = TensorView(view.onnx, None if trivial else perm, view.scale, view.offset)
        else:
            self.ctx.tensors[var_name] = TensorView(
                view.onnx, layout.order, view.scale, view.offset, split=layout.sizes, shape=layout.stored_shape, onnx_shape=layout.shape
            )

    def _binding(self, var: relax.Var, value: relax.Expr) -> Value | list[Callable[[relax.Var], Value]]:
        if isinstance(value, relax.Var | GenericConst):
            return self.value(value)
        if isinstance(value, TupleGetItem) and isinstance(self.values.get(value.tuple_value), list):
            return self.values[value.tuple_value][value.index](var)
        if isinstance(value, relax.Call):
            rule = RULES.get(op_name(value))
            result = rule(self, var, value) if rule else None
            if result is not None:
                return result
        return self._as_it_is(var, value)

    def _as_it_is(self, var: relax.Var, value: relax.Expr) -> Value | list[Callable[[relax.Var], Value]]:
        """Keep a binding, its tensors in their logical order."""
        new = self._plain_args(value)
        if isinstance(var.ty, relax.TensorType):
            layout = Layout.plain(static_shape(var))
            return Value(self.bind(new, var.name, layout), layout, var.name)
        whole = self.builder.bind(new, var.name)
        self._free_names.discard(var.name)

        def take(index):
            def bind(item):
                layout = Layout.plain(static_shape(item))
                return Value(self.bind(TupleGetItem(whole, index), item.name, layout), layout, item.name)

            return bind

        return [take(i) for i in range(len(var.ty.fields))]

    def _plain_args(self, expr):
        if isinstance(expr, relax.Var):
            return self.mover.plain(self.value(expr))
        if isinstance(expr, relax.Call):
            return relax.Call(expr.op, [self._plain_args(a) for a in expr.args], expr.attrs, expr.ty_args)
        if isinstance(expr, Tuple):
            return Tuple([self._plain_args(f) for f in expr.fields])
        return expr
