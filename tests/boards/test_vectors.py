"""Test vectors of a firmware project: `make test` says PASS where the board computes what is expected, and FAIL, with the element, where not."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

import bnncc
from bnncc.boards import Vectors, find_board, write_project
from bnncc.report.vectors import make_vectors
from tests.cli.digits_commands import MODEL

from .test_projects import WARNINGS, compiled, model, need  # noqa: F401  the fixture

OPTIONS = {"sign_zero": "exact"}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """Return three vectors of tfc, as this machine's library computes them."""
    folder = tmp_path_factory.mktemp("x86") / "out"
    bnncc.compile(model("tfc_1w1a"), target="x86-64-v2").save(folder)
    library = bnncc.load(folder)
    images = np.random.default_rng(5).random((3, 1, 1, 28, 28)).astype(np.float32)
    return images, np.stack([library(image) for image in images])


def run_tests(board: str, c, tmp_path, vectors: Vectors, *more: str) -> subprocess.CompletedProcess:
    chosen = find_board(board)
    write_project(chosen, c("tfc_1w1a", chosen.target), tmp_path / "proj", vectors)
    return subprocess.run(["make", "test", *more], cwd=tmp_path / "proj", capture_output=True, text=True, check=False)


@pytest.mark.parametrize("board", ["microbit", "riscv32-virt"])
def test_the_board_says_pass(compiled, right, tmp_path, board):  # noqa: F811
    need("make", find_board(board).emulator[0], f"{find_board(board).tool_prefix}gcc")
    done = run_tests(board, compiled, tmp_path, Vectors([right[0]], [right[1]], "three images"))
    assert done.returncode == 0 and "PASS: 3 of 3 test vectors (three images) as expected" in done.stdout + done.stderr
    told = json.loads((tmp_path / "proj" / "metadata.json").read_text())["vectors"]
    assert told["samples"] == 3
    np.testing.assert_array_equal(np.load(tmp_path / "proj" / told["inputs"]["0"]), right[0])
    np.testing.assert_array_equal(np.load(tmp_path / "proj" / told["outputs"]["74"]), right[1])


def test_the_board_says_which_element_is_not_as_expected(compiled, right, tmp_path):  # noqa: F811
    need("make", "qemu-system-arm", "arm-none-eabi-gcc")
    wrong = right[1].copy()
    wrong[1, 0, 7] += 0.5
    wrong[2, 0, 3] *= 1 + 2e-7  # the last bits of a float are another C library's business
    done = run_tests("microbit", compiled, tmp_path, Vectors([right[0]], [wrong], "changed"))
    said = done.stdout + done.stderr
    found, wanted = (f"0x{value[1, 0, 7].view(np.uint32):08x}" for value in (right[1], wrong))
    assert done.returncode != 0
    assert f"vector 1, output t74, element 7: found {found}, expected {wanted}\n" in said
    assert "FAIL: 2 of 3 test vectors (changed) as expected, 1 floats within their tolerance" in said


def test_a_firmware_that_hangs_ends_the_test(compiled, right, tmp_path):  # noqa: F811
    need("make", "timeout", "qemu-system-arm", "arm-none-eabi-gcc")
    run_tests("microbit", compiled, tmp_path, Vectors([right[0]], [right[1]], "three images"), "-n")
    program = tmp_path / "proj" / "test.c"
    program.write_text(program.read_text().replace("uint32_t right = 0;", "uint32_t right = 0;\n    for (;;) {}", 1))
    done = subprocess.run(["make", "test", "TIMEOUT=2"], cwd=tmp_path / "proj", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and "Error 124" in done.stderr


def test_a_board_without_an_emulator_gets_a_program_to_flash(compiled, right, tmp_path):  # noqa: F811
    need("make", "arm-none-eabi-gcc", "arm-none-eabi-objcopy")
    done = run_tests("nrf52840-dk", compiled, tmp_path, Vectors([right[0]], [right[1]], "three images"), "test.hex", "test.bin")
    assert done.returncode == 0 and "flash test.elf and read its serial port" in done.stdout
    content = (tmp_path / "proj" / "test.bin").read_bytes()
    assert right[1][0].tobytes() in content and right[0][2].tobytes() in content and b"PASS" in content
    write_project(find_board("nrf52840-dk"), compiled("tfc_1w1a", "cortex-m4"), tmp_path / "proj")  # what was built is no foreign file
    assert not any((tmp_path / "proj" / name).exists() for name in ("test.c", "test.elf", "vectors"))


def test_its_c_compiles_without_warnings(compiled, right, tmp_path):  # noqa: F811
    need("gcc")
    run_tests("nrf52840-dk", compiled, tmp_path, Vectors([right[0]], [right[1]], "a \"name\" */ of \\ files"), "-n")
    done = subprocess.run(["gcc", *WARNINGS, str(tmp_path / "proj" / "test.c")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_cmake_builds_both_programs_and_ctest_runs_the_vectors(compiled, right, tmp_path):  # noqa: F811
    need("cmake", "ctest", "qemu-system-arm", "arm-none-eabi-gcc")
    run_tests("mps2-an385", compiled, tmp_path, Vectors([right[0]], [right[1]], "three images"), "-n")
    for command in (["cmake", "-B", "build"], ["cmake", "--build", "build"], ["ctest", "--test-dir", "build"]):
        done = subprocess.run(command, cwd=tmp_path / "proj", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "100% tests passed" in done.stdout and (tmp_path / "proj" / "build" / "firmware.elf").exists()
    shutil.rmtree(tmp_path / "proj" / "build")


def test_vectors_are_as_many_as_the_flash_holds():
    whole, note = make_vectors(MODEL, None, 5, 1 << 20, OPTIONS)
    assert whole.inputs[0].shape == (5, 1, 1, 8, 8) and whole.outputs[0].shape == (5, 1, 10) and "5 samples drawn at random" in note
    size = 64 * 4 + 10 * 4  # an image and its logits
    some, note = make_vectors(MODEL, None, 5, 4096 + 3 * size, OPTIONS)
    np.testing.assert_array_equal(some.inputs[0], whole.inputs[0][:3])
    assert f"no room for more: 5 take {5 * size:,} bytes, {4096 + 3 * size:,} are left" in note
    none, note = make_vectors(MODEL, None, 5, 4096, OPTIONS)
    assert none is None and note.startswith("There are no test vectors")


def test_given_samples_become_vectors():
    images = np.random.default_rng(1).random((4, 1, 8, 8)).astype(np.float32)
    vectors, note = make_vectors(MODEL, images, 3, 1 << 20, OPTIONS)
    np.testing.assert_array_equal(vectors.inputs[0][:, 0], images[:3])
    assert "first 3 of the samples that were given" in note
