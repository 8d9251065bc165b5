"""First layers of signs on the bytes of an image: firmware on boards computes what onnxruntime computes."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc
from bnncc.boards import find_board, run_project, write_project
from bnncc.spec import ByteInput

from .test_projects import need

rng = np.random.default_rng(5)


def network(channels: int, kernel: int, stride: int, around: int, size: int):
    """Return the ONNX model: signs on real images, a threshold a channel of either direction, and a binary layer behind."""
    weights = rng.choice(np.array([-1, 1], np.float32), (20, channels, kernel, kernel))
    constants = {
        "w": weights,
        "scale": rng.choice(np.array([-0.5, 0.25], np.float32), (1, 20, 1, 1)),
        "shift": (rng.integers(-20, 20, (1, 20, 1, 1)) + 1 / 3).astype(np.float32),
        "behind": rng.choice(np.array([-1, 1], np.float32), (6, 20, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["sums"], "first", strides=[stride] * 2, pads=[around] * 4),
        helper.make_node("Mul", ["sums", "scale"], ["scaled"], "norm"),
        helper.make_node("Add", ["scaled", "shift"], ["moved"], "shift"),
        helper.make_node("Sign", ["moved"], ["bits"], "sign"),
        helper.make_node("Conv", ["bits", "behind"], ["y"], "behind"),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (("x", (1, channels, size, size)), ("y", (1, 6, None, None)))
    ]
    graph = helper.make_graph(nodes, "first", *ends, [numpy_helper.from_array(array, name) for name, array in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def reference(model, x: np.ndarray) -> np.ndarray:
    """Return what onnxruntime computes of the model as it is."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "board, channels, kernel, stride, around, zero",
    [
        ("mps2-an386", 3, 3, 1, 1, 128),
        ("mps2-an386", 1, 5, 2, 2, 0),
        ("mps2-an386", 4, 3, 2, 1, 127.5),
        ("microbit", 3, 3, 1, 1, 0),
        ("microbit", 1, 3, 1, 0, 128),
        ("mps3-an547", 3, 3, 1, 1, 128),
        ("riscv32-virt", 2, 5, 1, 2, 3),
    ],
)
def test_a_first_layer_of_signs_on_bytes_computes_what_onnxruntime_computes(board, channels, kernel, stride, around, zero, tmp_path):
    chosen = find_board(board)
    need("make", chosen.emulator[0], f"{chosen.tool_prefix}gcc")
    model = network(channels, kernel, stride, around, 9)
    # a power of two: the source's float sums are exact
    artifact = bnncc.compile(model, target=chosen.target, byte_inputs={"": ByteInput(1 / 64, zero)}, sign_zero="plus", name="first")
    metadata = artifact.save(tmp_path / "c")
    (notes,) = metadata["model"]["kernel_notes"].values()
    assert any("sums of" in note and "thresholds in the starts" in note for note in notes.values()), notes
    write_project(chosen, tmp_path / "c", tmp_path / "project")
    images = [rng.integers(0, 256, (1, channels, 9, 9)).astype(np.uint8) for _ in range(2)]
    images.append(np.where(images[0] < 128, 0, 255).astype(np.uint8))
    for image, outputs in zip(images, run_project(tmp_path / "project", [{"x": image} for image in images]), strict=True):
        np.testing.assert_array_equal(outputs["y"], reference(model, (image.astype(np.float32) - np.float32(zero)) * np.float32(1 / 64)))
