"""The C example compiles without a warning and classifies as Python does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import bnncc

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("c") / "out"
    bnncc.compile(EXAMPLES / "digits" / "digits.onnx", target="native").save(folder)
    return folder


@pytest.fixture(scope="module")
def program(out) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    binary = out.parent / "classify"
    options = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{out}", f"-L{out}", f"-Wl,-rpath,{out}"]
    subprocess.run(["gcc", *options, EXAMPLES / "c" / "classify.c", "-ldigits", "-o", binary], check=True)
    return binary


def test_the_seven_is_a_seven_and_its_scores_are_those_of_python(program, out):
    seven = EXAMPLES / "c" / "seven.txt"
    result = subprocess.run([program], stdin=seven.open(), capture_output=True, text=True, check=True)
    assert result.stdout.endswith("It is a 7.\n")
    printed = re.findall(r"^\d: (.*)$", result.stdout, re.MULTILINE)
    image = np.loadtxt(seven, dtype=np.float32).reshape(1, 1, 8, 8) / 16
    assert printed == [f"{score:9.5f}" for score in bnncc.load(out)(image)[0]]


def test_too_few_numbers_are_told(program):
    result = subprocess.run([program], input="1 2 3", capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (2, "64 numbers are needed, number 4 is missing\n")
