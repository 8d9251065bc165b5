"""Lowered modules written by hand, with what they compute in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm import relax
from tvm.script import tirx as T

from bnncc.codegen import TensorSpec, emit_library
from bnncc.targets import find_target


@T.prim_func(s_tir=True)
def xor_popcount(a: T.Buffer((16, 4), "uint64"), w: T.Buffer((4, 8), "uint64"), o: T.Buffer((16, 8), "int32")):
    acc = T.alloc_buffer((8,), "uint64")
    for i in range(16):
        for j in T.vectorized(8):
            acc[j] = T.uint64(0)
        for k in range(4):
            for j in T.vectorized(8):
                acc[j] = acc[j] + T.popcount(a[i, k] ^ w[k, j])
        for j in T.vectorized(8):
            o[i, j] = 256 - 2 * T.Cast("int32", acc[j])


def popcount_reference(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    bits = np.bitwise_count(a[:, :, None] ^ w[None])
    return (256 - 2 * bits.sum(1, dtype=np.int32)).astype(np.int32)


@T.prim_func(s_tir=True)
def affine(x: T.Buffer((6, 8), "float32"), s: T.Buffer((8,), "float32"), b: T.Buffer((8,), "float32"), o: T.Buffer((6, 8), "float32")):
    for i in range(6):
        for j in T.vectorized(8):
            o[i, j] = x[i, j] * s[j] + b[j]


@T.prim_func(s_tir=True)
def sign_and_rest(x: T.Buffer((48,), "float32"), neg: T.Buffer((48,), "bool"), rest: T.Buffer((48,), "int8")):
    for i in range(48):
        neg[i] = x[i] < T.float32(0)
        rest[i] = T.Cast("int8", T.floor(x[i]))


def _reversal(columns: int):
    """A kernel that needs a local buffer of 48 x `columns` float32: it writes all of it before it reads it backwards."""
    text = f"""
@T.prim_func(s_tir=True)
def reversal(x: T.Buffer((48,), "float32"), o: T.Buffer((48,), "float32")):
    table = T.alloc_buffer((48, {columns}), "float32")
    for i, j in T.grid(48, {columns}):
        table[i, j] = x[i] + T.Cast("float32", j)
    for i in range(48):
        o[i] = T.float32(0)
        for j in range({columns}):
            o[i] = o[i] + table[47 - i, j]
"""
    return tvm.script.from_source(text, {"T": T})


reversal_on_stack = _reversal(106)  # 20 KB
reversal_in_workspace = _reversal(1024)  # 192 KB


def reversal_reference(x: np.ndarray, columns: int) -> np.ndarray:
    total = np.zeros(48, np.float32)
    for j in range(columns):
        total = total + (x[::-1] + np.float32(j))
    return total


def tensor(*shape: int, dtype: str = "float32") -> relax.TensorType:
    return relax.TensorType(shape, dtype)


def popcount_module(weights: np.ndarray) -> tvm.IRModule:
    """One kernel, its weights a constant."""
    builder = relax.BlockBuilder()
    kernel = builder.add_func(xor_popcount, "xor_popcount")
    x = relax.Var("x", tensor(16, 4, dtype="uint64"))
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(relax.call_tir(kernel, (x, relax.const(weights)), tensor(16, 8, dtype="int32")))
        builder.emit_func_output(out)
    return builder.get()


SCALE = np.linspace(-1.7, 2.3, 8, dtype=np.float32)
BIAS = np.linspace(0.3, -0.9, 8, dtype=np.float32)


def network_module() -> tvm.IRModule:
    """Every construct: shared constants, reshapes, several outputs of a kernel, local buffers small and large, outputs that need copies."""
    builder = relax.BlockBuilder()
    kernels = {
        name: builder.add_func(func, name)
        for name, func in (
            ("affine", affine),
            ("sign_and_rest", sign_and_rest),
            ("reversal_on_stack", reversal_on_stack),
            ("reversal_in_workspace", reversal_in_workspace),
        )
    }
    x = relax.Var("x", tensor(6, 8))
    with builder.function("main", [x]):
        with builder.dataflow():
            first = builder.emit(relax.call_tir(kernels["affine"], (x, relax.const(SCALE), relax.const(BIAS)), tensor(6, 8)))
            second = builder.emit(relax.call_tir(kernels["affine"], (first, relax.const(SCALE.copy()), relax.const(BIAS)), tensor(6, 8)))
            flat = builder.emit(relax.op.reshape(second, (48,)))
            turned = builder.emit(relax.call_tir(kernels["reversal_on_stack"], (flat,), tensor(48)))
            again = builder.emit(relax.call_tir(kernels["reversal_in_workspace"], (turned,), tensor(48)))
            both = builder.emit(relax.call_tir(kernels["sign_and_rest"], (flat,), [tensor(48, dtype="bool"), tensor(48, dtype="int8")]))
            negative, rest = builder.emit(both[0]), builder.emit(both[1])
            square = builder.emit(relax.op.reshape(again, (8, 6)))
            out = builder.emit_output(relax.Tuple([square, negative, rest, x, again, relax.const(SCALE)]))
        builder.emit_func_output(out)
    y = relax.Var("y", tensor(6, 8))
    with builder.function("tail", [y]):
        with builder.dataflow():
            out = builder.emit_output(relax.call_tir(kernels["affine"], (y, relax.const(SCALE), relax.const(BIAS)), tensor(6, 8)))
        builder.emit_func_output(out)
    return builder.get()


NETWORK_INPUTS = [TensorSpec("x", (6, 8), "float32")]
NETWORK_OUTPUTS = [
    TensorSpec("square", (8, 6), "float32"),
    TensorSpec("is negative?", (48,), "bool"),
    TensorSpec("int", (48,), "int8"),
    TensorSpec("same", (6, 8), "float32"),
    TensorSpec("again", (48,), "float32"),
    TensorSpec("scale", (8,), "float32"),
]


def network_reference(x: np.ndarray) -> dict[str, np.ndarray]:
    second = (x * SCALE + BIAS) * SCALE + BIAS
    flat = second.reshape(48)
    again = reversal_reference(reversal_reference(flat, 106), 1024)
    return {
        "square": again.reshape(8, 6),
        "is negative?": flat < 0,
        "int": np.floor(flat).astype(np.int8),
        "same": x,
        "again": again,
        "scale": SCALE,
    }


def emit(module: tvm.IRModule, out: Path, inputs, outputs, target: str = "x86-64-v2", name: str = "net", **options) -> dict:
    """Emit the same module for all variants of a target."""
    found = find_target(target)
    lowered = {variant.name: module for variant in found.variants}
    return emit_library(lowered, name=name, target=found, inputs=inputs, outputs=outputs, metadata={"sample": 1}, out=out, **options)


def emit_popcount(out: Path, weights: np.ndarray | None = None, target: str = "x86-64-v2", **options) -> dict:
    weights = np.arange(32, dtype=np.uint64).reshape(4, 8) if weights is None else weights
    inputs, outputs = [TensorSpec("x", (16, 4), "uint64")], [TensorSpec("y", (16, 8), "int32")]
    return emit(popcount_module(weights), out, inputs, outputs, target, **options)


def emit_network(out: Path, target: str = "x86-64-v2", **options) -> dict:
    return emit(network_module(), out, NETWORK_INPUTS, NETWORK_OUTPUTS, target, **options)
