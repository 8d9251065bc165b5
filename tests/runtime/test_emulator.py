"""Libraries for 64-bit Arm give the same numbers under an emulator, and what is missing for that is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from codegen import modules

from bnncc import toolchain
from bnncc.errors import LibraryError, TargetError, ToolchainError
from bnncc.report.verify import verify_model
from bnncc.runtime import load
from bnncc.targets import target_names

TRIPLE = "aarch64-linux-gnu"
DIGITS = Path(__file__).parents[2] / "examples" / "digits"
emulated = pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which(f"{TRIPLE}-gcc")), reason="qemu-user and gcc-aarch64-linux-gnu are not installed"
)


@emulated
@pytest.mark.parametrize("target", ["aarch64", "cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76", "neoverse-n1", "apple-m1"])
def test_every_arm_target_computes_what_the_reference_does(target, tmp_path):
    assert target in target_names()
    modules.emit_network(tmp_path / "out", target)
    x = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    found, expected = load(tmp_path / "out")(x), modules.network_reference(x)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@emulated
def test_a_trained_network_is_exact_on_arm():
    x = np.load(DIGITS / "test.npz")["images"][:3, None].astype(np.float32) / 16
    report = verify_model(DIGITS / "digits.onnx", inputs=x, target="aarch64")
    assert report.ok and report.bit_layers == 2 and "emulated" in report.variant


def test_code_of_a_microcontroller_is_verified_on_a_board():
    with pytest.raises(TargetError, match="cortex-m4 is firmware.*--board BOARD"):
        verify_model("no model is read.onnx", target="cortex-m4")


@emulated
def test_an_emulated_process_that_ends_is_reported(tmp_path):
    modules.emit_network(tmp_path / "out", "aarch64")
    model = load(tmp_path / "out")
    process = model._library.functions["main"].__closure__
    (emulator,) = [cell.cell_contents for cell in process if hasattr(cell.cell_contents, "_process")]
    emulator._process.kill()
    with pytest.raises(LibraryError, match="emulated process that runs .*libnet.so has ended"):
        model(np.ones((6, 8), np.float32))


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)


def test_a_missing_cross_compiler_names_its_packages(empty_path):
    with pytest.raises(ToolchainError, match=r"(?s)aarch64-linux-gnu-gcc.*apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross.*pip install ziglang"):
        toolchain.find_compiler(TRIPLE)


def test_a_missing_emulator_names_its_packages(empty_path):
    with pytest.raises(ToolchainError, match=r"(?s)qemu-aarch64 was not found.*apt install qemu-user gcc-aarch64-linux-gnu"):
        toolchain.find_emulator(TRIPLE)


def test_cc_is_for_this_machine_and_not_for_another(tmp_path, monkeypatch):
    compiler = tmp_path / f"{TRIPLE}-gcc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-cc")
    assert toolchain.find_compiler(TRIPLE) == [f"{TRIPLE}-gcc"]
