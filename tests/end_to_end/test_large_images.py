"""Dense prediction on large images: right, in a workspace of little more than the tensors alive at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import bnncc

ZOO = Path(__file__).resolve().parents[2] / "examples" / "zoo"


def enlarged(name: str, size: tuple[int, int]) -> onnx.ModelProto:
    """Return a fully convolutional network of the zoo for images of another size."""
    model = onnx.load(ZOO / name / "torchscript.onnx")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_value, dims[3].dim_value = size
    del model.graph.value_info[:]
    for i, output in enumerate(model.graph.output):
        for k, dim in enumerate(output.type.tensor_type.shape.dim[1:]):
            dim.dim_param = f"output{i}_{k}"
    return model


@pytest.mark.parametrize(
    "name, size, bytes_a_pixel",
    [("bineal_segmentation", (448, 672), 64), ("bineal_segmentation", (512, 1024), 64), ("bineal_matching", (448, 672), 32)],
)
def test_a_large_image_is_right_in_a_bounded_workspace(name, size, bytes_a_pixel, tmp_path):
    model = enlarged(name, size)
    bnncc.compile(model, target="native").save(tmp_path / "out")
    x = np.random.default_rng(0).normal(0, 1, (1, 3, *size)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = bnncc.load(tmp_path / "out")(x)
    for output, expected in zip(session.get_outputs(), session.run(None, {session.get_inputs()[0].name: x}), strict=True):
        got = results[output.name]
        if expected.dtype == np.int64:
            assert np.mean(got != expected) < 1e-4  # classes whose scores are as good as equal
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    workspace = json.loads((tmp_path / "out" / "metadata.json").read_text())["workspace_bytes"]
    assert workspace <= bytes_a_pixel * size[0] * size[1]  # what is measured, and a few per cent: the peak is the upsampling, not the blocks
