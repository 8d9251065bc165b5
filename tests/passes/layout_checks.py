"""Run `canonicalize_layout` and check what every test of it checks: same results, views that hold, NHWC inside."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from bnncc.ops.interpreter import run_module
from bnncc.passes.canonicalize_layout import canonicalize_layout
from bnncc.passes.context import PassContext, TensorView
from bnncc.passes.rewrite import Graph, op_name

__all__ = ["canonical", "operators"]


def operators(mod: tvm.IRModule) -> list[str]:
    """Return the operators of main in order, without the prefix."""
    return [(op_name(b.value) or type(b.value).__name__).removeprefix("relax.") for b in Graph(mod).bindings]


def canonical(mod: tvm.IRModule, seed: int = 0, tolerance: float = 0.0) -> tuple[tvm.IRModule, PassContext]:
    """Run the pass and compare every variable that it maps, and the outputs, with the module as it came.

    Every variable of `mod` counts as an ONNX tensor of the name ``onnx_`` plus its own.
    """
    graph = Graph(mod)
    names = [p.name for p in graph.params] + [b.var.name for b in graph.bindings]
    ctx = PassContext(tensors={name: TensorView("onnx_" + name) for name in names})
    new = canonicalize_layout(mod, ctx)
    assert relax.analysis.well_formed(new) is not False
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(-3, 4, [int(d) for d in p.ty.shape.values]).astype(str(p.ty.dtype)) for p in graph.params]
    before = {p.name: a for p, a in zip(graph.params, arrays)}
    expected = run_module(mod, *arrays, observe=before.__setitem__)
    after = {p.name: a for p, a in zip(graph.params, arrays)}
    found = run_module(new, *arrays, observe=after.__setitem__)
    for got, want in zip(found if isinstance(found, tuple) else (found,), expected if isinstance(expected, tuple) else (expected,)):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    left = Graph(new)
    assert set(ctx.tensors) <= {p.name for p in left.params} | {b.var.name for b in left.bindings}
    for name, view in ctx.tensors.items():
        want = before[view.onnx.removeprefix("onnx_")]
        np.testing.assert_allclose(after[name], view.from_onnx(want), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(view.to_onnx(after[name]), want, rtol=tolerance, atol=tolerance)
    return new, ctx
