"""A compiled model takes exactly what it was compiled for and may be called from anywhere."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from codegen import modules
from codegen.modules import tensor
from tvm import relax
from tvm.script import tirx as T

from bnncc.codegen import TensorSpec
from bnncc.errors import InputError, InternalError
from bnncc.runtime import load


@pytest.fixture(scope="module")
def network(tmp_path_factory, worker_cache):
    folder = tmp_path_factory.mktemp("network") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNNCC_CACHE_DIR", str(worker_cache))
        modules.emit_network(folder, "x86-64")
    return load(folder)


@T.prim_func(s_tir=True)
def add_rows(
    a: T.Buffer((1, 3), "float32"), b: T.Buffer((1, 3), "float32"), total: T.Buffer((1, 3), "float32"), dot: T.Buffer((1,), "float32")
):
    dot[0] = T.float32(0)
    for j in range(3):
        total[0, j] = a[0, j] + b[0, j]
        dot[0] = dot[0] + a[0, j] * b[0, j]


@pytest.fixture(scope="module")
def pair(tmp_path_factory, worker_cache):
    """Two inputs of shape [1, 3]; the sum as [1, 3], the inner product as [1] and once more without a leading dimension."""
    folder = tmp_path_factory.mktemp("pair") / "out"
    builder = relax.BlockBuilder()
    kernel = builder.add_func(add_rows, "add_rows")
    a, b = relax.Var("a", tensor(1, 3)), relax.Var("b", tensor(1, 3))
    with builder.function("main", [a, b]):
        with builder.dataflow():
            both = builder.emit(relax.call_tir(kernel, (a, b), [tensor(1, 3), tensor(1)]))
            dot = builder.emit(both[1])
            out = builder.emit_output(relax.Tuple([both[0], dot, relax.op.reshape(dot, ())]))
        builder.emit_func_output(out)
    inputs = [TensorSpec("a", (1, 3), "float32"), TensorSpec("in/b", (1, 3), "float32")]
    outputs = [TensorSpec("sum", (1, 3), "float32"), TensorSpec("dot", (1,), "float32"), TensorSpec("scalar", (), "float32")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNNCC_CACHE_DIR", str(worker_cache))
        modules.emit(builder.get(), folder, inputs, outputs, "x86-64")
    return load(folder)


A, B = np.float32([[1, 2, 3]]), np.float32([[4, 5, 7]])


def test_it_says_what_it_takes_and_gives(network):
    assert network.inputs == tuple(modules.NETWORK_INPUTS)
    assert network.outputs == tuple(modules.NETWORK_OUTPUTS)
    assert network.metadata["model"] == {"sample": 1}
    assert network.variant in ("v2", "v3", "v4")
    assert repr(network).startswith(f"CompiledModel(net, {network.variant}: x: float32[6, 8] -> square: float32[8, 6], ")


@pytest.mark.parametrize(
    "call",
    [lambda m: m(A, B), lambda m: m({"in/b": B, "a": A}), lambda m: m(A, **{"in/b": B}), lambda m: m({"in/b": B}, a=A)],
    ids=["positions", "dict", "both", "dict and names"],
)
def test_inputs_come_by_position_or_name(pair, call):
    found = call(pair)
    np.testing.assert_array_equal(found["sum"], [[5, 7, 10]])
    np.testing.assert_array_equal(found["dot"], [35])
    np.testing.assert_array_equal(found["scalar"], np.float32(35), strict=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(A), r"Missing input: in/b. The network takes a: float32\[1, 3\]; in/b: float32\[1, 3\]\."),
        (lambda m: m(), "Missing input: a, in/b"),
        (lambda m: m(A, B, A), "3 arrays were given. The network takes a: float32"),
        (lambda m: m({"a": A, "b": B}), "There is no input 'b'. The network takes"),
        (lambda m: m(A, B, a=A), "input 'a' was given twice"),
        (lambda m: m(A.astype(np.float64), B), r"'a' has dtype float64, the network takes float32. .* `a.astype\(numpy.float32\)`"),
        (lambda m: m(A, B.astype(np.int32)), "'in/b' has dtype int32"),
        (lambda m: m(A.tolist(), B), r"'a' is a list; give a NumPy array of float32\[1, 3\]"),
        (lambda m: m(A[0], B), r"'a' has shape \[3\], the network takes \[1, 3\]"),
        (lambda m: m(A, np.zeros((1, 4), np.float32)), r"'in/b' has shape \[1, 4\]"),
        (lambda m: m(np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32)), r"'a' has shape \[2, 3\]"),
        (lambda m: m(A.astype(">f4"), B), "'a' has dtype >f4"),
        (lambda m: m.run_entry("side", A), "no entry 'side'; it has main"),
        (lambda m: m.run_entry("main", A), "entry main takes 2 inputs, 1 were given"),
        (lambda m: m.run_entry("main", A, A[0]), r"'in1' has shape \[3\]"),
        (lambda m: m.run_entry("main", A, A.astype(np.int8)), "'in1' has dtype int8"),
    ],
)
def test_what_does_not_fit_is_refused(pair, call, message):
    with pytest.raises(InputError, match=message):
        call(pair)


def test_strided_and_misaligned_arrays_are_copied(pair):
    strided = np.zeros((1, 6), np.float32)[:, ::2]
    strided[:] = A
    misaligned = np.zeros(13, np.uint8)[1:].view(np.float32).reshape(1, 3)
    misaligned[:] = B
    assert not misaligned.flags.aligned
    np.testing.assert_array_equal(pair(strided, misaligned)["sum"], A + B)


def test_inputs_stay_as_they_are_and_outputs_are_new(pair):
    a, b = A.copy(), B.copy()
    a.flags.writeable = False
    first, second = pair(a, b), pair(a, b)
    np.testing.assert_array_equal(b, B)
    assert not np.shares_memory(first["sum"], second["sum"])


def test_a_batch_runs_one_by_one_and_is_stacked(pair):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (2, 5, 3)).astype(np.float32)
    found = pair(a, b)
    np.testing.assert_array_equal(found["sum"], a + b)
    np.testing.assert_array_equal(found["dot"], (a * b).sum(1))
    # an output without a leading 1 gets a dimension
    np.testing.assert_array_equal(found["scalar"], (a * b).sum(1))
    assert {array.shape for array in pair(a[:0], b[:0]).values()} == {(0, 3), (0,)}


def test_a_batch_of_the_wrong_dtype_is_refused(pair):
    with pytest.raises(InputError, match="'a' has dtype float64"):
        pair(np.zeros((5, 3)), np.zeros((5, 3)))


def test_a_network_without_a_leading_one_takes_no_batch(network):
    with pytest.raises(InputError, match=r"'x' has shape \[12, 8\], the network takes \[6, 8\]"):
        network(np.zeros((12, 8), np.float32))


def test_an_extra_entry_runs_alone(network):
    x = np.random.default_rng(2).normal(size=(6, 8)).astype(np.float32)
    (found,) = network.run_entry("tail", x)
    np.testing.assert_array_equal(found, x * modules.SCALE + modules.BIAS)


def test_the_workspace_grows_with_the_entry(network):
    x = np.ones((6, 8), np.float32)
    alone = load(network.path)
    alone.run_entry("tail", x)
    np.testing.assert_array_equal(alone(x)["again"], modules.network_reference(x)["again"])


def test_threads_do_not_disturb_each_other(network):
    images = np.random.default_rng(3).normal(size=(40, 6, 8)).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(network, images))
    for image, result in zip(images, found, strict=True):
        np.testing.assert_array_equal(result["again"], modules.network_reference(image)["again"])


def test_an_error_code_of_the_library_is_told(network, monkeypatch):
    monkeypatch.setitem(network._library.functions, "main", lambda *_: -3)
    with pytest.raises(InternalError, match="returned -3: the workspace is not aligned to 64 bytes"):
        network(np.zeros((6, 8), np.float32))


def test_running_needs_nothing_of_the_compiler(network):
    program = f"""
import sys
from bnncc.runtime import load
import numpy
load({str(network.path)!r})(numpy.zeros((6, 8), numpy.float32))
print([name for name in ("tvm", "onnx", "onnxruntime", "networkx", "jinja2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
