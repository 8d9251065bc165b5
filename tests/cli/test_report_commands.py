"""verify and inspect on the example network."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .digits_commands import MODEL, assert_told, bnncc

pytest.importorskip("bnncc.report.inspect", reason="bnncc.report.inspect and verify are not written yet")


def test_verify_finds_the_binarized_part_exact(images):
    text = bnncc("verify", MODEL, "--target", "native", "--input", images, "--limit", "3")
    assert text.exit_code == 0 and text.stdout, text.output
    result = bnncc("verify", MODEL, "--target", "native", "--input", images, "--limit", "3", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ok"] is True


def test_inspect_lists_the_layers(images):
    result = bnncc("inspect", MODEL, "--target", "native")
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in ("/stem/Conv", "/conv1/Conv", "/conv2/Conv", "/dense/Gemm"))
    machine = bnncc("inspect", MODEL, "--target", "native", "--json")
    bits = {row["node"]: row["bits"] for row in json.loads(machine.stdout)["layers"]}
    assert bits == {"/stem/Conv": False, "/conv1/Conv": True, "/conv2/Conv": True, "/dense/Gemm": False}


@pytest.mark.parametrize("command", [["inspect"], ["verify", "--input", "x.npy"]], ids=lambda c: c[0])
def test_a_truncated_model_is_told(command, images, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(Path(MODEL).read_bytes()[:100_000])
    command = [images if part == "x.npy" else part for part in command]
    assert_told(bnncc(*command, tmp_path / "cut.onnx"), "cut.onnx")
    assert os.listdir(tmp_path) == ["cut.onnx"]
