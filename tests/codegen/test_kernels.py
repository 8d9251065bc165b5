"""A kernel that cannot be compiled is named."""

from __future__ import annotations

import pytest
from tvm.script import tirx as T

from bnncc.codegen.kernels import KernelRequest, compile_kernels
from bnncc.errors import InternalError
from bnncc.targets import find_target
from codegen import modules

V2 = find_target("x86-64-v2").variants[0].tvm_target


@T.prim_func(s_tir=True)
def scalar(n: T.int32, o: T.Buffer((4,), "int32")):
    for i in range(4):
        o[i] = n


@T.prim_func(s_tir=True)
def on_a_gpu(x: T.Buffer((4,), "int32"), o: T.Buffer((4,), "int32")):
    for i in T.thread_binding(4, thread="threadIdx.x"):
        o[i] = x[i]


def test_a_failure_of_tvm_names_the_kernel_and_the_target():
    with pytest.raises(InternalError, match="kernel broken cannot be compiled for x86-64-v2: "):
        compile_kernels([KernelRequest("broken", on_a_gpu, V2)])


def test_a_broken_contract_is_told_as_it_is():
    with pytest.raises(InternalError, match="no buffer"):
        compile_kernels([KernelRequest("good", modules.affine, V2), KernelRequest("bad", scalar, V2)])


def test_no_kernels_are_no_work():
    seen = []
    assert compile_kernels([], lambda done, total: seen.append((done, total))) == []
    assert seen == [(0, 0)]
