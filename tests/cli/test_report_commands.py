"""verify and inspect on the example network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnncc.report import verify

from .digits_commands import MODEL, assert_told, bnncc


def test_verify_finds_the_binarized_part_exact(images):
    text = bnncc("verify", MODEL, "--target", "native", "--input", images, "--limit", "3")
    assert text.exit_code == 0 and text.stdout, text.output
    result = bnncc("verify", MODEL, "--target", "native", "--input", images, "--limit", "3", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ok"] is True


def test_verify_without_an_input_draws_samples_and_says_so():
    result = bnncc("verify", MODEL, "--target", "native", "--limit", "2")
    assert result.exit_code == 0 and "No --input: the 2 samples were drawn at random" in result.stdout, result.output


def test_verify_exits_1_after_its_report_when_something_differs(images, monkeypatch):
    found = SimpleNamespace(ok=False, to_json=lambda: {"ok": False}, to_text=lambda console: console.print("differs"))
    monkeypatch.setattr(verify, "verify_model", lambda model, **options: found)
    for arguments, stdout in ([], "differs\n"), (["--json"], '{\n  "ok": false\n}\n'):
        result = bnncc("verify", MODEL, "--input", images, *arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (1, stdout, "")


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
