"""Small modules, and the check that every test of a pass makes: the same results before and after, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax

from bnncc.ops import bnn
from bnncc.ops.interpreter import run_module
from bnncc.passes.context import PassContext
from bnncc.passes.rewrite import Graph, const, op_name

__all__ = ["arguments", "binarized", "bindings", "module", "operators", "results", "rewritten", "same", "signs", "unchanged"]


def signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw int8 codes of -1 and +1."""
    return rng.choice(np.array([-1, 1], np.int8), shape)


def module(build: Callable, *params: tuple[tuple[int, ...], str]) -> tvm.IRModule:
    """Return a module whose main returns ``build(*variables)``, an expression or a tuple of them; params are (shape, dtype)."""
    variables = [relax.Var(f"x{i}", relax.TensorType(shape, dtype)) for i, (shape, dtype) in enumerate(params)]
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            made = build(*variables)
            outputs = [builder.emit_output(v) for v in (made if isinstance(made, tuple) else (made,))]
        builder.emit_func_output(tuple(outputs) if isinstance(made, tuple) else outputs[0])
    return builder.get()


def binarized(x: relax.Expr, ternary: bool = False) -> relax.Expr:
    """Return the codes of a real tensor: +1 from 0 on, or three-valued like a plain Sign."""
    if ternary:
        return bnn.quantize(x, const(np.array([0, 1e-45], np.float32)), const(np.int8(1)), -1, 1, 1)
    return bnn.quantize(x, const(np.zeros(1, np.float32)), const(np.int8(1)))


def bindings(mod: tvm.IRModule, name: str) -> list[relax.Call]:
    """Return the calls of main of the operator ``relax.<name>``, in order."""
    return [b.value for b in Graph(mod).bindings if op_name(b.value) == f"relax.{name}"]


def operators(mod: tvm.IRModule) -> list[str]:
    """Return the operators of main in order, without the prefix; ``group`` for a call of a function."""
    return [(op_name(b.value) or "group").removeprefix("relax.") for b in Graph(mod).bindings if isinstance(b.value, relax.Call)]


def arguments(mod: tvm.IRModule, seed: int = 0) -> list[np.ndarray]:
    """Draw an array for each parameter: small floats of which every fifth is exactly 0, codes of -1 and +1, booleans."""
    rng = np.random.default_rng(seed)
    drawn = []
    for p in Graph(mod).params:
        shape, dtype = tuple(int(d) for d in p.ty.shape.values), str(p.ty.dtype)
        real = np.where(rng.random(shape) < 0.2, 0, rng.standard_normal(shape) * 2)
        drawn.append(signs(rng, *shape) if dtype == "int8" else real.astype(dtype))
    return drawn


def results(mod: tvm.IRModule, arrays) -> tuple[np.ndarray, ...]:
    """Return what main computes, always as a tuple."""
    found = run_module(mod, *arrays)
    return found if isinstance(found, tuple) else (found,)


def same(before: tvm.IRModule, after: tvm.IRModule, *arrays: np.ndarray, tolerance: float = 0.0) -> None:
    """Assert that two modules compute the same, on the given arrays or on drawn ones; exactly where there is no tolerance."""
    given = arrays or arguments(before)
    for got, want in zip(results(after, given), results(before, given), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def rewritten(run: Callable, mod: tvm.IRModule, ctx: PassContext | None = None, *arrays: np.ndarray, tolerance: float = 0.0) -> tvm.IRModule:
    """Run a pass; its result is well formed and computes the same."""
    after = run(mod, ctx or PassContext())
    assert relax.analysis.well_formed(after) is not False
    same(mod, after, *arrays, tolerance=tolerance)
    return after


def unchanged(run: Callable, mod: tvm.IRModule, ctx: PassContext | None = None) -> None:
    """Assert that a pass leaves a module as it is."""
    tvm.ir.assert_structural_equal(run(mod, ctx or PassContext()), mod)
