"""Object files, and libraries for other systems: linked and looked into; what is not Linux was built here, never run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bnncc
from bnncc import toolchain
from bnncc.cli.app import app
from bnncc.codegen.system import find_system
from bnncc.errors import InputError, LibraryError, ToolchainError
from bnncc.toolchain import find_compiler, find_emulator

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL = EXAMPLES / "digits" / "digits.onnx"
MACOS, WINDOWS, LINUX = "aarch64-apple-macos", "x86_64-w64-windows-gnu", "aarch64-linux-gnu"
zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="the Python package ziglang is not installed")
emulated = pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")), reason="qemu-user and gcc-aarch64-linux-gnu are not installed"
)


def seven(command: list) -> str:
    with open(EXAMPLES / "c" / "seven.txt") as image:
        return subprocess.run(command, stdin=image, capture_output=True, text=True, check=True).stdout


@emulated
@pytest.mark.parametrize("output_format", ["so", "object"])
def test_the_c_example_crosses_to_arm_and_runs_there(output_format, tmp_path):
    out, program = tmp_path / "out", tmp_path / "classify"
    bnncc.compile(MODEL, target="aarch64", output_format=output_format).save(out)
    part = [f"-L{out}", f"-Wl,-rpath,{out}", "-ldigits"] if output_format == "so" else [out / "digits.o", "-lm"]
    subprocess.run([*find_compiler(LINUX), "-std=c11", "-Wall", "-Werror", f"-I{out}", EXAMPLES / "c" / "classify.c", *part, "-o", program], check=True)
    assert seven([*find_emulator(LINUX), program]).endswith("It is a 7.\n")


def test_an_object_is_linked_into_a_program_and_is_no_library(tmp_path):
    out, program = tmp_path / "out", tmp_path / "classify"
    bnncc.compile(MODEL, target="native", output_format="object").save(out)
    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["files"][0] == "digits.o" and metadata["note"] == ""
    compiler = find_compiler("x86_64-linux-gnu")
    subprocess.run([*compiler, "-std=c11", f"-I{out}", EXAMPLES / "c" / "classify.c", out / "digits.o", "-lm", "-o", program], check=True)
    assert seven([program]).endswith("It is a 7.\n")
    with pytest.raises(LibraryError, match="describes no library.*bnncc-object"):
        bnncc.load(out)
    bnncc.compile(MODEL, target="native").save(out)  # an earlier output of bnncc is replaced
    assert bnncc.load(out)(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)


@zig
@pytest.mark.slow  # zig builds the system's C runtime once
@pytest.mark.parametrize("target, file, magic", [("aarch64-macos", "libdigits.dylib", b"\xcf\xfa\xed\xfe"), ("x86-64-windows", "digits.dll", b"MZ")])
def test_libraries_for_other_systems_are_built_and_export_their_functions(target, file, magic, tmp_path):
    done = CliRunner().invoke(app, ["compile", str(MODEL), "--target", target, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0 and f"{target}: built, not run here" in done.output
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["note"].startswith("built, not run here")
    content = (tmp_path / "out" / file).read_bytes()
    assert content.startswith(magic) and b"digits_run" in content and b"digits_error" in content
    with pytest.raises(ToolchainError, match="does not run here"):
        bnncc.load(tmp_path / "out")


@zig
def test_zig_alone_links_for_linux_on_arm(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    assert find_compiler(LINUX)[-2:] == ["-target", LINUX]
    bnncc.compile(MODEL, target="aarch64").save(tmp_path / "out")
    assert (tmp_path / "out" / "libdigits.so").read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize("triple, target", [(MACOS, "aarch64-macos"), (WINDOWS, "x86_64-windows-gnu"), (LINUX, LINUX)])
def test_zig_knows_no_vendors(triple, target, monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: object())
    assert find_compiler(triple)[-1] == target


@pytest.mark.parametrize("triple", [MACOS, WINDOWS])
def test_what_is_missing_for_another_system_is_named(triple, monkeypatch):
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match="pip install ziglang"):
        find_compiler(triple)
    with pytest.raises(ToolchainError, match="does not run here"):
        find_emulator(triple)
    assert not find_system(triple).is_elf


def test_threads_are_those_of_linux():
    with pytest.raises(InputError, match="another system than Linux"):
        bnncc.compile(MODEL, target="aarch64-macos", threads=2)
