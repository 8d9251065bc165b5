"""Images of one pixel, and of one channel: there NCHW and NHWC are the same memory, until something is padded."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 4, 5)], ids=["one pixel", "one channel"])
def test_a_padded_slice_of_one_channel_still_runs_on_bits(shape, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "zero": np.float32(0),
        "plus": np.float32(1),
        "minus": np.float32(-1),
        "starts": np.array([0]),
        "ends": np.array([1]),
        "axes": np.array([1]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "w": rng.choice([-1, 1], (5, 1, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["c"]),
        helper.make_node("Where", ["c", "plus", "minus"], ["s"]),
        helper.make_node("Slice", ["s", "starts", "ends", "axes"], ["one"]),
        helper.make_node("Pad", ["one", "pads", "plus"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"], "conv"),
    ]
    out = (1, 5, *shape[2:])
    inputs, outputs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in (("x", shape), ("y", out)))
    graph = helper.make_graph(nodes, "net", inputs, outputs, [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = rng.standard_normal(shape).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})

    artifact = bnncc.compile(model, target="native")
    artifact.save(tmp_path / "out")

    assert [(row.node, row.bits) for row in artifact.report.layers] == [("conv", True)]
    np.testing.assert_array_equal(bnncc.load(tmp_path / "out")(x), expected)
