"""Firmware projects: the C compiles without warnings, and QEMU's boards compute what the x86 library computes."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import bnncc
from bnncc.boards import Region, board_names, count_project, find_board, measure_memory, run_project, write_project
from bnncc.boards.memory import stack_bound
from bnncc.boards.project import ram_of
from bnncc.errors import LibraryError, TargetError, ToolchainError
from bnncc.report.board import verify_firmware

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"
BOARDS = {"microbit": "tfc_1w1a", "mps3-an547": "tfc_1w1a", "mps2-an385": "tfc_1w1a", "riscv32-virt": "tfc_1w1a", "mps2-an386": "gtsrb_bnn_30"}
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic", "-O1", "-c", "-o", "/dev/null")


def model(name: str) -> Path:
    """Return a model from the shared folder, or skip."""
    path = MODELS / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return path


def need(*programs: str) -> None:
    """Skip where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return a function that compiles a model to C once."""
    known = {}

    def c_of(name: str, target: str) -> Path:
        if (name, target) not in known:
            known[name, target] = tmp_path_factory.mktemp("c") / "out"
            bnncc.compile(model(name), target=target).save(known[name, target])
        return known[name, target]

    return c_of


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_generated_c_compiles_without_warnings(compiled, compiler):
    need(compiler)
    out = compiled("tfc_1w1a", "cortex-m0")
    done = subprocess.run([compiler, *WARNINGS, str(out / "tfc_1w1a.c")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_generated_c_has_no_mutable_data_and_names_the_node_that_ends_each_layer(compiled, tmp_path):
    need("arm-none-eabi-gcc", "arm-none-eabi-size")
    out = compiled("tfc_1w1a", "cortex-m0")
    made = tmp_path / "model.o"
    subprocess.run(["arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-std=c99", "-Os", "-c", str(out / "tfc_1w1a.c"), "-o", str(made)], check=True)
    data, bss = subprocess.run(["arm-none-eabi-size", str(made)], capture_output=True, text=True, check=True).stdout.splitlines()[1].split()[1:3]
    assert (data, bss) == ("0", "0")
    text = (out / "tfc_1w1a.c").read_text()
    assert [name for name in ("BipolarQuant_11", "BipolarQuant_19", "BipolarQuant_27", "BipolarQuant_35", "Add_46") if name not in text] == []


@pytest.mark.parametrize("board", sorted(BOARDS))
def test_a_board_computes_what_x86_computes(compiled, tmp_path, board):
    chosen, name = find_board(board), BOARDS[board]
    need("make", chosen.emulator[0], "riscv64-unknown-elf-gcc" if board.startswith("riscv") else "arm-none-eabi-gcc")
    write_project(chosen, compiled(name, chosen.target), tmp_path / "proj")
    reference = bnncc.compile(model(name), target="x86-64-v2")
    reference.save(tmp_path / "x86")
    (spec,) = reference.model.inputs
    images = [np.random.default_rng(seed).random(spec.shape).astype(spec.dtype) * 255 for seed in range(3)]
    found = run_project(tmp_path / "proj", [{spec.name: image} for image in images])
    library = bnncc.load(tmp_path / "x86")
    for image, outputs in zip(images, found, strict=True):
        found_here, wanted = next(iter(outputs.values())), library(image)
        if name == "tfc_1w1a":  # binary throughout
            np.testing.assert_array_equal(found_here, wanted)
        else:  # a softmax: newlib's expf and glibc's differ in the last bit; a wrong bit of a layer before it would show in the third digit
            np.testing.assert_allclose(found_here, wanted, rtol=1e-6)


def test_a_model_too_large_for_the_ram_is_refused_before_anything_is_written(compiled, tmp_path):
    board = dataclasses.replace(find_board("microbit"), ram=Region(0x20000000, 4096))
    with pytest.raises(TargetError, match=r"bytes of RAM .* more than the 4,096 of microbit") as raised:
        write_project(board, compiled("tfc_1w1a", "cortex-m0"), tmp_path / "proj")
    needed, arena, image, output, stack, over = (int(n.replace(",", "")) for n in re.findall(r" ([\d,]+\d|\d+)", str(raised.value))[:6])
    assert (image, output) == (784 * 4, 10 * 4) and needed == arena + image + output + stack == 4096 + over
    assert not (tmp_path / "proj").exists()


def test_a_model_too_large_for_the_flash_is_refused_before_anything_is_written(compiled, tmp_path):
    board = dataclasses.replace(find_board("microbit"), flash=Region(0, 8192))
    with pytest.raises(TargetError, match="more than the flash of microbit"):
        write_project(board, compiled("tfc_1w1a", "cortex-m0"), tmp_path / "proj")
    assert not (tmp_path / "proj").exists()


def altered(compiled, folder: Path, file: str, old: str, new: str) -> Path:
    """Write a firmware for a Cortex-M3 in which `old` is replaced by `new`, and return its folder."""
    write_project(find_board("mps2-an385"), compiled("tfc_1w1a", "cortex-m3"), folder)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    return folder


FAULT = ("main.c", "for (;;) {", '__asm__ volatile("udf #0");\n    for (;;) {')


def test_a_firmware_that_faults_is_told_with_its_registers(compiled, tmp_path):
    need("make", "qemu-system-arm", "arm-none-eabi-gcc")
    altered(compiled, tmp_path / "proj", *FAULT)
    with pytest.raises(TargetError, match=r"exit 99(.|\n)*the firmware faulted\nCFSR 00010000"):
        run_project(tmp_path / "proj", [])


def test_a_firmware_that_hangs_is_stopped(compiled, tmp_path):
    need("make", "qemu-system-arm", "arm-none-eabi-gcc")
    altered(compiled, tmp_path / "proj", "main.c", "for (;;) {", "for (;;) {}\n    for (;;) {")
    with pytest.raises(TargetError, match="did not finish .* the firmware hangs"):
        run_project(tmp_path / "proj", [], timeout=5.0)


def test_a_fault_while_instructions_are_counted_is_told_with_its_registers(compiled, tmp_path):
    need("make", "qemu-system-arm", "arm-none-eabi-gcc", "gcc")
    altered(compiled, tmp_path / "proj", *FAULT)
    with pytest.raises(TargetError, match=r"the firmware faulted\nCFSR 00010000") as raised:
        count_project(tmp_path / "proj")
    assert "COUNT" not in str(raised.value)


@pytest.mark.parametrize("missing", ["make", "arm-none-eabi-gcc", "qemu-system-arm"])
def test_a_missing_program_is_named_with_its_package_before_anything_is_compiled(tmp_path, monkeypatch, missing):
    programs = {"make": "make", "arm-none-eabi-gcc": "gcc-arm-none-eabi", "qemu-system-arm": "qemu-system-arm"}
    for program in programs:
        if program != missing:
            (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=f"{missing} is not installed.*apt install[^,]* {programs[missing]}"):
        verify_firmware(tmp_path / "no model is read.onnx", "mps2-an386")


def test_a_missing_c_library_is_named_with_its_package(compiled, tmp_path):
    need("make", "arm-none-eabi-gcc", "qemu-system-arm")
    altered(compiled, tmp_path / "proj", "Makefile", "CFLAGS = ", "CFLAGS = -include no_such_library.h ")
    with pytest.raises(ToolchainError, match="C library.*libnewlib-arm-none-eabi"):
        run_project(tmp_path / "proj", [])


def test_ram_is_arena_input_output_and_stack(compiled):
    metadata = json.loads((compiled("tfc_1w1a", "cortex-m0") / "metadata.json").read_text())
    parts = ram_of(metadata, find_board("microbit"))
    assert (parts["input"], parts["output"], parts["stack"]) == (784 * 4, 10 * 4, 2048)
    assert metadata["workspace_lower_bound_bytes"] <= parts["arena"] <= 1.1 * metadata["workspace_lower_bound_bytes"]


def test_every_manifest_is_sound():
    for name in board_names():
        assert find_board(name).name == name


def test_a_mistyped_board_is_told_the_nearest():
    with pytest.raises(TargetError, match="Did you mean 'mps2-an386'"):
        find_board("mps2-an368")


def test_a_folder_that_is_no_project_is_refused(tmp_path):
    with pytest.raises(LibraryError, match="no firmware project"):
        run_project(tmp_path, [])


def test_instructions_are_counted_function_by_function(compiled, tmp_path):
    need("make", "qemu-system-arm", "arm-none-eabi-gcc", "arm-none-eabi-nm", "gcc")
    write_project(find_board("microbit"), compiled("tfc_1w1a", "cortex-m0"), tmp_path / "proj")
    rows = {row.function: row for row in count_project(tmp_path / "proj")}
    layers = [row for row in rows.values() if row.layers]
    assert sorted(row.layers for row in layers)[0] == "Add Add_46" and "main" not in rows
    # 784 x 64 + 3 x 64 x 64 + 64 x 10 multiply-accumulates, 32 at a time; a loop over words takes 25 instructions
    assert 1800 < sum(row.instructions for row in layers) < 25 * 1800
    assert all(row.cycles >= row.instructions for row in layers)


@pytest.mark.parametrize("board", [name for name in board_names() if not find_board(name).emulator])
def test_a_real_board_is_built_within_its_memory(compiled, tmp_path, board):
    need("make", "arm-none-eabi-gcc")
    chosen = find_board(board)
    write_project(chosen, compiled("tfc_1w1a", chosen.target), tmp_path / "proj")
    subprocess.run(["make", "-s"], cwd=tmp_path / "proj", check=True)
    vectors = subprocess.run(["arm-none-eabi-objdump", "-h", "firmware.elf"], cwd=tmp_path / "proj", capture_output=True, text=True, check=True).stdout
    assert f"{chosen.flash.origin:08x}" in vectors
    with pytest.raises(TargetError, match="QEMU has no model"):
        run_project(tmp_path / "proj", [])


def test_memory_is_what_the_linker_says_and_the_stack_is_what_is_used(compiled, tmp_path):
    need("make", "arm-none-eabi-gcc", "arm-none-eabi-size", "arm-none-eabi-objdump")
    write_project(find_board("microbit"), compiled("tfc_1w1a", "cortex-m0"), tmp_path / "proj")
    memory = measure_memory(tmp_path / "proj")
    subprocess.run(["make", "-s"], cwd=tmp_path / "proj", check=True)
    text, data, _ = (
        subprocess.run(["arm-none-eabi-size", "firmware.elf"], cwd=tmp_path / "proj", capture_output=True, text=True, check=True)
        .stdout.splitlines()[1]
        .split()[:3]
    )
    assert abs(sum(memory.flash.values()) - int(text) - int(data)) <= 64  # size counts notes, we count what alignment takes
    assert memory.over() == [] and 200 < memory.ram["stack"] < 2048
    small = dataclasses.replace(memory.board, flash=Region(0, 8192), ram=Region(0x20000000, 4096))
    assert [name for name, _, _ in dataclasses.replace(memory, board=small).over()] == ["flash", "RAM"]


LISTING = """
00000000 <reset>:
   0:\tpush\t{r4, lr}
   2:\tbl\t10 <main>
00000010 <main>:
  10:\tstmdb\tsp!, {r4, r5, r6, r7, lr}
  14:\tsub\tsp, #40\t@ 0x28
  16:\tbl\t20 <small>
  1a:\tb.n\t30 <large.constprop.0>
00000020 <small>:
  20:\tvpush\t{d8-d9}
00000030 <large.constprop.0>:
  30:\tpush\t{r4-r7, lr}
"""


def test_the_stack_is_bound_along_the_deepest_calls():
    assert stack_bound(LISTING, {}) == 8 + (20 + 40) + max(16, 20)
    assert stack_bound(LISTING, {"large": 100}) == 8 + 60 + 100


def test_functions_that_call_one_another_have_no_stack_bound():
    with pytest.raises(TargetError, match="reset calls main calls large calls main"):
        stack_bound(LISTING + "  32:\tbl\t10 <main>\n", {})
