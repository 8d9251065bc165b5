"""Networks that PyTorch 2.13 exported (examples/export/torch_patterns.py), by both exporters: right, and on bits where they can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from .comparing import compare, fail_on, layer_bits
from .running import reference

FOLDER = Path(__file__).parent / "exports"
BINARY_CONVOLUTIONS = {
    "sign": 2, "where": 2, "detach_ste": 2, "bireal": 2, "constants": 2, "irnet": 2, "dorefa": 0, "pact": 0, "xnor_net": 2, "reactnet": 3,
    "boolnet": 2, "large": 1,
}  # fmt: skip


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", BINARY_CONVOLUTIONS)
def test_an_export_is_recognised_and_right(name: str, exporter: str, tmp_path: Path) -> None:
    model = onnx.load(FOLDER / f"{name}_{exporter}.onnx")
    arrays = np.load(FOLDER / f"{name}.npz")
    samples = [{"x": x[None]} for x in arrays["x"]]
    artifact, wrong = compare(model, tmp_path / "out", samples=samples, rtol=1e-3, atol=1e-3)
    rows = layer_bits(artifact)
    binary = [node for node, (bits, _) in rows.items() if bits]
    fail_on(wrong)
    assert len(binary) == BINARY_CONVOLUTIONS[name], rows
    stem = next(node.name for node in model.graph.node if node.op_type == "Conv")
    assert stem not in binary


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", BINARY_CONVOLUTIONS)
def test_the_stored_outputs_are_those_of_onnxruntime(name: str, exporter: str) -> None:
    arrays = np.load(FOLDER / f"{name}.npz")
    model = onnx.load(FOLDER / f"{name}_{exporter}.onnx")
    for x, y in zip(arrays["x"], arrays[exporter]):
        (actual,) = reference(model, {"x": x[None]}).values()
        np.testing.assert_allclose(actual[0], y, rtol=1e-4, atol=1e-4)


def test_the_dynamo_exporter_keeps_the_sign_of_a_large_weight() -> None:
    operators = [node.op_type for node in onnx.load(FOLDER / "large_dynamo.onnx").graph.node]
    assert "Sign" in operators
    assert "Sign" not in [node.op_type for node in onnx.load(FOLDER / "where_dynamo.onnx").graph.node]
