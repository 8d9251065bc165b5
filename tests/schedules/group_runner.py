"""Compiles one group into a shared library with the project's own lowering, runs it, and gives the NumPy meaning beside it."""

from __future__ import annotations

import ctypes
import functools
import math
import subprocess
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from bnncc.codegen import lower_tir
from bnncc.ops.interpreter import run_module
from bnncc.runtime.emulator import Emulator
from bnncc.schedules import Kernel, build_kernel
from bnncc.targets import Variant
from bnncc.targets.x86 import native_variant
from bnncc.toolchain import find_compiler, is_native

GUARD = 64
"""Bytes before and after each output that a kernel must leave alone."""


def group(emit, *params, constants=()) -> relax.Function:
    """Build a group: ``emit(*vars)`` returns the expression (or tuple) to return; params are (shape, dtype)."""
    variables = [relax.Var(f"p{i}", relax.TensorType(shape, dtype)) for i, (shape, dtype) in enumerate(params)]
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            result = emit(builder, *variables)
            outputs = [builder.emit_output(value) for value in (result if isinstance(result, tuple) else (result,))]
        builder.emit_func_output(tuple(outputs) if len(outputs) > 1 else outputs[0])
    return builder.get()["main"].with_attr("bnncc.const_params", list(constants))


def meaning(function: relax.Function, arrays) -> list[np.ndarray]:
    """Return the outputs by the operators' NumPy meaning."""
    result = run_module(tvm.IRModule({"main": function}), *arrays)
    return list(result) if isinstance(result, tuple) else [result]


def assembly(function: relax.Function, variant: Variant) -> str:
    """Return the instructions of the kernel of a group, without the half-float routines TVM adds."""
    target = tvm.target.Target(variant.tvm_target)
    lowered = lower_tir.lower_kernel(build_kernel(function, variant).func, "kernel", target)
    text = tvm.get_global_func("target.build.llvm")(lowered.module, target).inspect_source("asm")
    return text[text.index("kernel:") :].split(".Lfunc_end0")[0]


class CompiledGroup:
    """A group as a shared library."""

    def __init__(self, function: relax.Function, folder: Path, variant: Variant | None = None, decided=None):
        variant = variant or native_variant()
        self.kernel: Kernel = build_kernel(function, variant, decided)
        self.outputs = output_types(function)
        target = tvm.target.Target(variant.tvm_target)
        lowered = lower_tir.lower_kernel(self.kernel.func, "kernel", target)
        self.parallel = lowered.parallel
        self._scratch = [_aligned(np.zeros(size, np.uint8)) for size in lowered.scratch]
        # a library of a name that is loaded already would not be loaded again
        name = f"kernel{len(list(folder.iterdir()))}"
        lower_tir.build_object(lowered, target, str(folder / f"{name}.o"))
        triple = variant.tvm_target["mtriple"]
        if not is_native(triple):
            self._function = self._emulated(folder / name, triple, lowered.scratch)
            return
        # the linker itself: a thousand kernels need no start-up files, and no C compiler that looks for them
        subprocess.run(["ld", "-shared", "-o", folder / f"{name}.so", folder / f"{name}.o", "-lm"], check=True)
        self._function = ctypes.CDLL(str(folder / f"{name}.so")).kernel
        self._function.restype = None

    def _emulated(self, path: Path, triple: str, scratch: tuple[int, ...]):
        """Return the kernel as a function of pointers that runs in an emulated process, which gets copies of what lies there."""
        reads = len(self.kernel.func.params) - len(self.outputs)
        sizes = [math.prod(shape) * np.dtype(dtype).itemsize + GUARD for shape, dtype in self.outputs]
        arguments = [f"in[{i}]" for i in range(reads)] + [f"(char *)out[{i}] + {GUARD}" for i in range(len(sizes))]
        arguments += [f"scratch{i}" for i in range(len(scratch))]
        parameters = ", ".join(["void *"] * len(arguments) + ["int", "int"] * self.parallel)
        arguments += ["0", "1"] * self.parallel
        buffers = "".join(f"static char scratch{i}[{size}] __attribute__((aligned(64)));\n" for i, size in enumerate(scratch))
        clear = "".join(f"memset(out[{i}], 0xA5, {size + GUARD}); " for i, size in enumerate(sizes))
        path.with_suffix(".c").write_text(
            f"#include <string.h>\nvoid kernel({parameters});\n{buffers}"
            f"int call(void **in, void **out) {{ {clear}kernel({', '.join(arguments)}); return 0; }}\n"
        )
        sources = [path.with_suffix(".c"), path.with_suffix(".o")]
        subprocess.run([*find_compiler(triple), "-shared", "-fPIC", "-o", path.with_suffix(".so"), *sources, "-lm"], check=True)
        call = Emulator(path.with_suffix(".so"), triple, 64).function("call", 0)
        reads_types = [(math.prod(int(d) for d in p.ty.shape), str(p.ty.dtype)) for p in self.kernel.func.params[:reads]]

        def run(*pointers):
            inputs = [_at(p, count * np.dtype(dtype).itemsize) for p, (count, dtype) in zip(pointers, reads_types, strict=False)]
            outputs = [_at(p.value - GUARD, size + GUARD) for p, size in zip(pointers[reads:], sizes, strict=False)]
            assert call(inputs, outputs, None) == 0

        return run

    def prepare(self, arrays) -> list[np.ndarray]:
        """Rearrange the constants as the kernel asks."""
        ready = []
        for i, array in enumerate(arrays):
            array = self.kernel.arranged(i, lambda j: arrays[j]) if i in self.kernel.relayout else array
            buffer = self.kernel.func.params[i]
            assert array.size == math.prod(int(size) for size in buffer.ty.shape) and str(array.dtype) == str(buffer.ty.dtype), buffer.name
            ready.append(_aligned(array))
        return ready

    def call(self, ready, results, parts: int = 1) -> None:
        """Run on prepared arrays; in `parts`, one after the other, where the kernel is parallel."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in [*ready, *results, *self._scratch]]
        for part in range(parts if self.parallel else 1):
            self._function(*pointers, *([part, parts] if self.parallel else []))

    def bound(self, ready, results):
        """Return a function that runs on prepared arrays and spends little besides: for timing."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in [*ready, *results, *self._scratch]]
        call = functools.partial(self._function, *pointers, *([0, 1] if self.parallel else []))
        call.arrays = (ready, results, self)  # what the pointers point to lives as long
        return call

    def __call__(self, *arrays, parts: int = 1) -> list[np.ndarray]:
        ready = self.prepare(arrays)
        guarded = [np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize + 2 * GUARD, 0xA5, np.uint8) for shape, dtype in self.outputs]
        self.call(ready, [array[GUARD:] for array in guarded], parts)
        for array in guarded:
            assert (array[:GUARD] == 0xA5).all() and (array[-GUARD:] == 0xA5).all(), "the kernel wrote outside its output"
        return [array[GUARD:-GUARD].view(dtype).reshape(shape) for array, (shape, dtype) in zip(guarded, self.outputs, strict=True)]


def _aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy that starts a cache line, as the constants of a library and the tensors of its arena do: NumPy's own may not."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _at(pointer, size: int) -> np.ndarray:
    address = getattr(pointer, "value", pointer)
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


def output_types(function: relax.Function):
    types = function.ret_ty.fields if isinstance(function.ret_ty, tvm.ir.TupleType) else [function.ret_ty]
    return [(tuple(int(d) for d in ty.shape.values), str(ty.dtype)) for ty in types]


def words(rng, shape, bits: int, channels: int, groups: int = 1) -> np.ndarray:
    """Return random packed channels: shape (..., words) for shape (..., channels), tail bits 0."""
    from bnncc.ops.pack import PackAttrs, pack_reference

    codes = rng.choice(np.array([-1, 1], np.int8), (*shape, channels))
    return pack_reference(PackAttrs(channels, groups, bits), codes)


def check_exact(function: relax.Function, arrays, folder: Path, variant: Variant | None = None) -> None:
    """Assert that a compiled group equals its NumPy meaning bit for bit, in one part and in three."""
    compiled, expected = CompiledGroup(function, folder, variant), meaning(function, arrays)
    for parts in (1, 3) if compiled.parallel else (1,):
        for one, other in zip(compiled(*arrays, parts=parts), expected, strict=True):
            np.testing.assert_array_equal(one, other)
