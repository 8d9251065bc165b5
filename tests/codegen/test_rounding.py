"""Float arithmetic is rounded as written, except in accumulations."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import tirx as T

from bnncc.codegen import TensorSpec
from bnncc.runtime import load
from bnncc.targets import find_target
from bnncc.targets.x86 import runs_here
from codegen import modules
from codegen.test_lower_tir import instructions

needs_fma = pytest.mark.skipif(not runs_here(find_target("x86-64-v3").variants[0]), reason="this machine has no AVX2")


def elementwise(expression: str, loop: str) -> tvm.tirx.PrimFunc:
    buffers = ", ".join(f'{name}: T.Buffer((512,), "float32")' for name in "abco")
    text = f"@T.prim_func(s_tir=True)\ndef kernel({buffers}):\n    for i in range(64):\n        for j in {loop}(8):\n"
    text += f"            o[i * 8 + j] = {expression}\n"
    return tvm.script.from_source(text, {"T": T})


def run(func: tvm.tirx.PrimFunc, folder, *arrays: np.ndarray) -> np.ndarray:
    builder = relax.BlockBuilder()
    kernel = builder.add_func(func, "kernel")
    params = [relax.Var(f"x{i}", modules.tensor(*array.shape)) for i, array in enumerate(arrays)]
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(relax.call_tir(kernel, tuple(params), modules.tensor(512)))
        builder.emit_func_output(out)
    specs = [TensorSpec(param.name, array.shape, "float32") for param, array in zip(params, arrays, strict=True)]
    modules.emit(builder.get(), folder, specs, [TensorSpec("o", (512,), "float32")], "x86-64-v3")
    return load(folder)(*arrays)


@needs_fma
@pytest.mark.parametrize("loop", ["T.vectorized", "range", "T.unroll"])
@pytest.mark.parametrize(
    ("expression", "reference"),
    [
        ("a[i * 8 + j] * b[i * 8 + j] + c[i * 8 + j]", lambda a, b, c: a * b + c),
        ("c[i * 8 + j] - a[i * 8 + j] * b[i * 8 + j]", lambda a, b, c: c - a * b),
        ("a[i * 8 + j] * b[i * 8 + j] - b[i * 8 + j] * c[i * 8 + j]", lambda a, b, c: a * b - b * c),
    ],
)
def test_products_and_sums_are_rounded_one_by_one(tmp_path, expression, reference, loop):
    a, b, c = (np.random.default_rng(seed).normal(size=512).astype(np.float32) for seed in range(3))
    c = -(a * b) + c * np.float32(1e-6)  # cancellation: one rounding less would show in nearly every element
    np.testing.assert_array_equal(run(elementwise(expression, loop), tmp_path / "out", a, b, c), reference(a, b, c))


def test_rounding_keeps_the_code_vectorized():
    code = instructions(elementwise("a[i * 8 + j] * b[i * 8 + j] + c[i * 8 + j]", "T.vectorized"), "x86-64-v3")
    assert any(line.startswith("vmulps") and "ymm" in line for line in code)
    assert not any(line.startswith("vfm") for line in code)


@T.prim_func(s_tir=True)
def matrix_product(
    a: T.Buffer((64,), "float32"), b: T.Buffer((64, 8), "float32"), c: T.Buffer((8,), "float32"), o: T.Buffer((8,), "float32")
):
    for j in T.vectorized(8):
        o[j] = T.float32(0)
    for k in range(64):
        for j in T.vectorized(8):
            o[j] = o[j] + a[k] * b[k, j]
    for j in T.vectorized(8):
        o[j] = o[j] * c[j] + T.float32(3)


def test_an_accumulation_is_fused_and_its_epilogue_is_not():
    code = instructions(matrix_product, "x86-64-v3")
    assert any(line.startswith("vfmadd") for line in code)
    assert any(line.startswith("vmulps") for line in code)


def test_an_unrolled_accumulation_is_fused():
    @T.prim_func(s_tir=True)
    def two_at_once(a: T.Buffer((64,), "float32"), b: T.Buffer((64, 8), "float32"), o: T.Buffer((8,), "float32")):
        for j in T.vectorized(8):
            o[j] = T.float32(0)
        for k in range(32):
            for j in T.vectorized(8):
                o[j] = o[j] + a[2 * k] * b[2 * k, j] + a[2 * k + 1] * b[2 * k + 1, j]

    code = instructions(two_at_once, "x86-64-v3")
    assert not any(line.startswith("vmulps") for line in code)


def test_a_store_to_another_element_is_no_accumulation():
    @T.prim_func(s_tir=True)
    def shifted(a: T.Buffer((8,), "float32"), o: T.Buffer((16,), "float32")):
        for j in T.vectorized(8):
            o[j] = o[j + 8] + a[j] * a[j]

    assert not any(line.startswith("vfm") for line in instructions(shifted, "x86-64-v3"))


def test_a_kernel_may_ask_for_contraction():
    func = elementwise("a[i * 8 + j] * b[i * 8 + j] + c[i * 8 + j]", "T.vectorized").with_attr("bnncc.contract", True)
    assert any(line.startswith("vfmadd") for line in instructions(func, "x86-64-v3"))


def test_integer_products_are_left_alone():
    @T.prim_func(s_tir=True)
    def integers(a: T.Buffer((64,), "int32"), o: T.Buffer((64,), "int32")):
        for j in range(64):
            o[j] = a[j] * a[j] + 1

    assert any(line.startswith("vpmulld") for line in instructions(integers, "x86-64-v3"))
