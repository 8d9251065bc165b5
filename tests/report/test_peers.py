"""Other programs are measured where they are installed; where not, that is said, and so is what they cannot run."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from typer import BadParameter

from bnncc.cli.benchmark import _sides
from bnncc.errors import InputError, ModelFormatError, ToolchainError
from bnncc.report.benchmark import benchmark
from bnncc.report.peers import open_peer
from report.test_benchmark import compiled, save_scaling  # noqa: F401  a fixture

X = {"x": np.ones((1, 4), np.float32)}


@pytest.mark.parametrize("name, suffix, message", [("openvino", ".onnx", "pip install openvino"), ("larq", ".tflite", "pip install larq-compute-engine")])
def test_a_program_that_is_not_installed_is_named_with_its_package(name, suffix, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    model = save_scaling(tmp_path / f"m{suffix}", 2)
    with pytest.raises(ToolchainError, match=f"is not installed in this Python.*{message}"):
        open_peer(name, model, X, 1)


def test_larq_says_that_it_reads_no_onnx(tmp_path):
    with pytest.raises(InputError, match="reads no ONNX.*larq=MODEL.tflite"):
        open_peer("larq", save_scaling(tmp_path / "m.onnx", 2), X, 1)


def test_an_unknown_program_and_a_missing_model_are_errors(tmp_path):
    with pytest.raises(InputError, match="no program 'tensorrt'.*openvino, larq"):
        open_peer("tensorrt", tmp_path / "m.onnx", X, 1)
    with pytest.raises(ModelFormatError, match="does not exist"):
        open_peer("openvino", tmp_path / "m.onnx", X, 1)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_is_measured_in_the_same_run(compiled, tmp_path):  # noqa: F811
    model = save_scaling(tmp_path / "m.onnx", 2)
    report = benchmark(compiled, model, peers={"openvino": model}, repeat=2)
    assert report.peers["openvino"].median > 0 and report.onnxruntime.median > 0 and "openvino" in report.versions


def test_a_program_named_alone_runs_the_model_of_onnxruntime(tmp_path):
    model, other = tmp_path / "m.onnx", tmp_path / "m.tflite"
    assert _sides([]) == (None, {})
    assert _sides([str(model), "openvino", f"larq={other}"]) == (model, {"openvino": model, "larq": other})
    assert _sides([f"openvino={model}"]) == (None, {"openvino": model})
    with pytest.raises(BadParameter, match="openvino is to run which model"):
        _sides(["openvino"])
    with pytest.raises(BadParameter, match="two models for onnxruntime"):
        _sides([str(model), str(other)])
    with pytest.raises(BadParameter, match="'openvin' is none of openvino, larq. Did you mean 'openvino'?"):
        _sides([f"openvin={model}"])
