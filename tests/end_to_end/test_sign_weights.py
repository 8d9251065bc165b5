"""Two-valued weights on real inputs: the library holds a bit a weight, in machine code and in C, and computes what onnxruntime does."""

from __future__ import annotations

import ctypes
import re
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """Return a convolution, a strided one with padding and a dense layer, all of weights +-c by channel."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        return (rng.choice([-1, 1], shape) * rng.uniform(0.02, 0.2, (shape[0], *(1,) * (len(shape) - 1)))).astype(np.float32)

    constants = {"w1": weights(24, 3, 3, 3), "w2": weights(32, 24, 3, 3), "w3": weights(200, 2048)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], "second", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w3"], ["y"], "dense", transB=1),
    ]
    image, output = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16]), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "signs", [image], [output], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def sample(network):
    x = np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return x, expected


def float_bytes(network) -> int:
    return sum(numpy_helper.to_array(t).nbytes for t in network.graph.initializer)


def test_a_library_holds_a_bit_a_weight(network, sample, tmp_path):
    artifact = bnncc.compile(network, target="native")
    artifact.save(tmp_path / "out")
    x, expected = sample
    np.testing.assert_allclose(np.asarray(bnncc.load(tmp_path / "out")(x)), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert all(row.reason.endswith("float sums, weights of 1 bit") for row in artifact.report.layers)
    assert sum(row.weight_bytes for row in artifact.report.layers) == float_bytes(network) // 32
    (library,) = (tmp_path / "out").glob("*.so")
    assert library.stat().st_size < float_bytes(network) // 32 + 60_000  # code and what the linker adds


def test_c_code_holds_a_bit_a_weight(network, sample, tmp_path):
    bnncc.compile(network, target="cortex-m4").save(tmp_path / "out")
    (source,), (header,) = ((tmp_path / "out").glob(pattern) for pattern in ("*.c", "*.h"))
    library = tmp_path / "signs.so"
    subprocess.run(["gcc", "-std=c99", "-O1", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
    assert library.stat().st_size < float_bytes(network) // 32 + 100_000
    x, expected = sample
    found, pointer = np.zeros_like(expected), ctypes.c_void_p
    workspace = np.zeros(int(re.search(r"_WORKSPACE_BYTES (\d+)", header.read_text())[1]) + 64, np.uint8)
    run = getattr(ctypes.CDLL(str(library)), f"{source.stem}_run")
    inputs, outputs = (pointer * 1)(x.ctypes.data), (pointer * 1)(found.ctypes.data)
    assert run(ctypes.byref(inputs), ctypes.byref(outputs), pointer(-(-workspace.ctypes.data // 64) * 64)) == 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind, on_integers", [(TensorProto.UINT8, True), (TensorProto.INT8, False)])
def test_an_image_of_whole_numbers_by_signs_is_exact(kind, on_integers, tmp_path):
    rng = np.random.default_rng(2)
    weights = rng.choice(np.float32([-1, 1]), (20, 3, 3, 3))
    nodes = [helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT), helper.make_node("Conv", ["real", "w"], ["y"], "first", pads=[1, 1, 1, 1])]
    image, output = helper.make_tensor_value_info("x", kind, [1, 3, 12, 10]), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "image", [image], [output], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    x = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, (1, 3, 12, 10)).astype(dtype)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    artifact = bnncc.compile(model, target="native")
    artifact.save(tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(bnncc.load(tmp_path / "out")(x)), expected)
    (layer,) = artifact.report.layers
    assert layer.integer == on_integers and (on_integers or layer.weight_bytes == weights.size // 8)
