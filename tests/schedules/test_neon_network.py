"""The count of a whole network on 64-bit Arm, step by step (benchmarks/arm_network.py)."""

from __future__ import annotations

import arm_network
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from test_neon_kernels import emulated


def test_limits_are_those_of_the_least_that_a_step_can_do():
    assert arm_network.limit("and over windows of words", 0, 160) == 10, "a load or store for 16 bytes"
    assert arm_network.limit("popcount tree, uint64 words", 1280, 160) == 3 * 10 + 10, "an exclusive or, a count and an addition a word"
    assert arm_network.limit("float, tile 5 pixels x 4 vectors", 24 * 4, 0) == pytest.approx(24 + 1.5 + 2), "24 multiply-adds of one step of a 6 x 4 tile"


def network(path):
    """Write a float convolution, a sign, a binary convolution, a maximum and an average."""
    rng = np.random.default_rng(0)
    weights = {"w1": rng.standard_normal((64, 3, 3, 3)), "w2": rng.choice([-1.0, 1.0], (64, 64, 3, 3))}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Sign", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["d"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "network", [value("x", 1, [1, 3, 16, 16])], [value("y", 1, None)], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@emulated
def test_every_step_is_counted_beside_its_limit(tmp_path):
    steps = arm_network.count_steps(network(tmp_path / "network.onnx"), "cortex-a76", tmp_path)
    (first,) = [step for step in steps if step.note.startswith("float, tile")]
    (binary,) = [step for step in steps if step.note.startswith(("popcount", "sliced"))]
    assert any(step.note.startswith("maximum") for step in steps) and any(step.note.startswith("average") for step in steps)
    assert all(0 < step.vector < step.total and 0 < step.memory < step.total for step in steps)
    # 14 x 14 pixels of 64 channels from 27 inputs, 12 x 12 from 576: no vector of four floats multiplies more, two words of sliced take three operations
    assert 14 * 14 * 64 * 27 / 4 <= first.vector < 2 * 14 * 14 * 64 * 27 / 4
    assert 1.5 * 12 * 12 * 64 * 576 / 128 <= binary.vector < 5 * 12 * 12 * 64 * 576 / 128
    assert all(step.total >= step.limit for step in (first, binary)) and sum(step.total for step in steps) < 2 * sum(step.limit for step in steps)
