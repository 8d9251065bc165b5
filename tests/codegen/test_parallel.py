"""Parallel loops are shared out by the caller's part, and kernels whose threads would disturb each other are refused."""

from __future__ import annotations

import ctypes
import subprocess

import numpy as np
import pytest
import tvm
from tvm.script import tirx as T

from bnncc.codegen.lower_tir import build_object, lower_kernel
from bnncc.codegen.print_c import print_function
from bnncc.errors import InternalError

LLVM = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v2"}


@T.prim_func(s_tir=True)
def doubled(x: T.Buffer((10,), "int32"), o: T.Buffer((10,), "int32")):
    for i in T.parallel(10):
        o[i] = x[i] + x[i]


@T.prim_func(s_tir=True)
def nested(x: T.Buffer((16,), "int32"), o: T.Buffer((16,), "int32")):
    for i in T.parallel(4):
        for j in T.parallel(4):
            o[i * 4 + j] = x[i * 4 + j]


@T.prim_func(s_tir=True)
def outside(x: T.Buffer((10,), "int32"), o: T.Buffer((11,), "int32")):
    for i in T.parallel(10):
        o[i] = x[i]
    o[10] = x[0]


def test_every_iteration_belongs_to_one_part(tmp_path):
    target = tvm.target.Target(LLVM)
    lowered = lower_kernel(doubled, "kernel", target)
    assert lowered.parallel
    build_object(lowered, target, str(tmp_path / "k.o"))
    subprocess.run(["gcc", "-shared", "-o", tmp_path / "k.so", tmp_path / "k.o"], check=True)
    kernel = ctypes.CDLL(str(tmp_path / "k.so")).kernel
    x = np.arange(1, 11, dtype=np.int32)
    for parts in (1, 2, 3, 4, 10, 13):
        written = np.zeros(10, int)
        for part in range(parts):
            out = np.zeros(10, np.int32)
            kernel(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data), part, parts)
            assert set(out[out != 0] - 2 * x[out != 0]) <= {0}
            assert abs((out != 0).sum() - 10 / parts) < 1
            written += out != 0
        assert (written == 1).all()


def test_a_serial_kernel_takes_no_part():
    lowered = lower_kernel(doubled.with_body(_serial(doubled)), "kernel", tvm.target.Target(LLVM))
    assert not lowered.parallel and len(lowered.module["kernel"].params) == 2


def test_in_c_loops_are_serial():
    lowered = lower_kernel(doubled, "kernel", tvm.target.Target({"kind": "c"}))
    assert not lowered.parallel and "part" not in print_function(lowered, "kernel", 1)


def test_nested_parallel_loops_are_refused():
    with pytest.raises(InternalError, match="parallel loops i and j of a kernel are nested"):
        lower_kernel(nested, "kernel", tvm.target.Target(LLVM))


def test_a_store_that_every_thread_would_make_is_refused():
    with pytest.raises(InternalError, match="stores to a parameter outside of them"):
        lower_kernel(outside, "kernel", tvm.target.Target(LLVM))


def _serial(func):
    from bnncc.codegen.parallel import serial

    return serial(func).body
