"""PrimFuncs become machine code with raw pointers, vectorized, without TVM's runtime."""

from __future__ import annotations

import re
import subprocess

import pytest
import tvm
from tvm import tirx
from tvm.script import tirx as T

from bnncc.codegen.lower_tir import build_object, lower_kernel
from bnncc.errors import InternalError
from bnncc.targets import find_target
from codegen import modules


def tvm_target(name: str) -> tvm.target.Target:
    return tvm.target.Target(find_target(name).variants[-1].tvm_target)


def instructions(func: tirx.PrimFunc, target: str) -> list[str]:
    """The instructions of the kernel itself, without its name and directives."""
    lowered = lower_kernel(func, "kernel", tvm_target(target))
    text = tvm.get_global_func("target.build.llvm")(lowered.module, tvm_target(target)).inspect_source("asm")
    body = text[text.index("\nkernel:") : text.index(".size\tkernel")]
    return [line.strip() for line in body.splitlines() if re.match(r"\t[a-z]", line)]


def test_the_object_holds_the_symbol_and_nothing_undefined(tmp_path):
    target = tvm_target("x86-64-v3")
    build_object(lower_kernel(modules.xor_popcount, "my_kernel", target), target, str(tmp_path / "k.o"))
    symbols = subprocess.run(["nm", tmp_path / "k.o"], capture_output=True, text=True, check=True).stdout
    assert re.search(r" T my_kernel$", symbols, re.M)
    assert " U " not in symbols


def test_a_popcount_kernel_uses_the_shuffle_method_on_avx2():
    code = instructions(modules.xor_popcount, "x86-64-v3")
    assert sum(line.startswith("vpshufb") for line in code) >= 4
    assert any(line.startswith("vpxor") and "ymm" in line for line in code)
    assert not any(line.startswith("popcnt") for line in code)


def test_a_popcount_kernel_uses_vpopcntq_on_avx512():
    code = instructions(modules.xor_popcount, "x86-64-v4")
    assert any(line.startswith("vpopcntq") and "zmm" in line for line in code)
    # one xor with a memory operand for each vector of weights
    assert any(line.startswith("vpxorq") and "(" in line and "zmm" in line for line in code)


def test_accumulators_stay_in_registers():
    code = instructions(modules.xor_popcount, "x86-64-v4")
    assert not [line for line in code if "rsp" in line]


def test_a_local_buffer_of_20_kb_stays_on_the_stack():
    assert lower_kernel(modules.reversal_on_stack, "kernel", tvm_target("x86-64-v3")).scratch == ()
    assert any(re.match(r"subq\t\$2\d{4}, %rsp", line) for line in instructions(modules.reversal_on_stack, "x86-64-v3"))


def test_a_local_buffer_of_192_kb_becomes_a_pointer_parameter():
    lowered = lower_kernel(modules.reversal_in_workspace, "kernel", tvm_target("x86-64-v3"))
    assert lowered.scratch == (48 * 1024 * 4,)
    assert len(lowered.module["kernel"].params) == 3
    assert not any(re.match(r"subq\t\$\d{5,}, %rsp", line) for line in instructions(modules.reversal_in_workspace, "x86-64-v3"))


def test_of_many_local_buffers_the_largest_leave_the_stack():
    sizes = [1024, 30 * 1024, 8 * 1024, 31 * 1024, 16]
    lines = [f'    b{i} = T.alloc_buffer(({size},), "uint8")' for i, size in enumerate(sizes)]
    for i, size in enumerate(sizes):
        lines += [f"    for i in range({size}):", f"        b{i}[i] = x[i % 4] + T.uint8({i})"]
    lines.append("    for i in range(16):")
    lines.append("        o[i] = " + " + ".join(f"b{i}[{size - 1} - i]" for i, size in enumerate(sizes)))
    header = '@T.prim_func(s_tir=True)\ndef many(x: T.Buffer((4,), "uint8"), o: T.Buffer((16,), "uint8")):\n'
    func = tvm.script.from_source(header + "\n".join(lines), {"T": T})
    # 39 KB are left on the stack, as the last 31 KB would pass 64 KB
    assert lower_kernel(func, "kernel", tvm_target("x86-64-v3")).scratch == (31 * 1024,)


def test_parallel_loops_run_in_the_callers_thread():
    @T.prim_func(s_tir=True)
    def parallel(x: T.Buffer((64,), "int32"), o: T.Buffer((64,), "int32")):
        for i in T.parallel(8):
            for j in range(8):
                o[i * 8 + j] = x[i * 8 + j] + 1

    code = instructions(parallel, "x86-64-v3")
    assert not [line for line in code if line.startswith("call")]


def test_without_simplification_let_values_are_not_substituted():
    # each value uses the one before twice: substitution would double the code at every step
    steps = 14
    lines = ["    v0 = T.bind(x[0])"]
    lines += [f"    v{i + 1} = T.bind((v{i} ^ x[{i}]) + (v{i} & x[{i + 1}]))" for i in range(steps)]
    text = '@T.prim_func(s_tir=True)\ndef chain(x: T.Buffer((16,), "uint32"), o: T.Buffer((1,), "uint32")):\n'
    text += '    T.func_attr({"bnncc.no_simplify": True})\n' + "\n".join(lines) + f"\n    o[0] = v{steps}\n"
    func = tvm.script.from_source(text, {"T": T})
    lowered = lower_kernel(func, "kernel", tvm_target("x86-64-v3"))
    assert lowered.module.script().count("T.let[") + lowered.module.script().count("T.bind(") == steps + 1
    assert len(lowered.module.script()) < 5000


def test_a_scalar_parameter_is_refused():
    @T.prim_func(s_tir=True)
    def scalar(n: T.int32, o: T.Buffer((4,), "int32")):
        for i in range(4):
            o[i] = n

    with pytest.raises(InternalError, match="parameter n of a kernel is no buffer"):
        lower_kernel(scalar, "kernel", tvm_target("x86-64-v2"))


def test_a_symbolic_shape_is_refused():
    @T.prim_func(s_tir=True)
    def symbolic(a: T.handle, b: T.handle):
        n = T.int32()
        x = T.match_buffer(a, (n,), "int32")
        o = T.match_buffer(b, (n,), "int32")
        for i in range(n):
            o[i] = x[i]

    with pytest.raises(InternalError, match="only constant shapes"):
        lower_kernel(symbolic, "kernel", tvm_target("x86-64-v2"))
