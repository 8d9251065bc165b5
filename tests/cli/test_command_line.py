"""The command line as a whole, without a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import bnncc
from bnncc.boards import board_names
from bnncc.cli.app import app
from bnncc.targets import target_names

COMMANDS = ["inspect", "compile", "run", "verify", "benchmark", "targets"]


def python(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, **kwargs)


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"bnncc {bnncc.__version__}\n")


def test_help_lists_every_command():
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert all(f" {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0 and name in result.stdout


def test_the_module_runs_as_the_command_does():
    result = python("-m", "bnncc", "--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"bnncc {bnncc.__version__}\n", "")
    assert python("-m", "bnncc", "nonsense").returncode == 2


def test_the_command_line_imports_no_compiler_before_a_command_is_chosen():
    heavy = "tvm", "onnx", "onnxruntime", "numpy", "networkx"
    code = f"import sys, bnncc.cli.app; print([m for m in {heavy} if m in sys.modules])"
    assert python("-c", code).stdout == "[]\n"


def test_targets_as_json_names_every_target():
    result = CliRunner().invoke(app, ["targets", "--json"])
    listed = json.loads(result.stdout)
    assert [t["name"] for t in listed] == target_names()
    assert all(t["description"] and t["variants"] for t in listed)


def test_targets_as_text_is_a_line_a_target_and_a_line_a_board_also_through_a_pipe():
    result = CliRunner().invoke(app, ["targets"], env={"COLUMNS": "300"})
    assert [line.split()[0] for line in result.stdout.splitlines() if line] == ["target", *target_names(), "board", *board_names()]


def test_a_reader_that_goes_away_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        result = subprocess.run([sys.executable, "-m", "bnncc", "targets"], stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 1 and "Traceback" not in result.stderr and "bug" not in result.stderr
