"""The same C as an Arduino library, as a Zephyr module and as an object file."""

from __future__ import annotations

import subprocess

import pytest

import bnncc
from bnncc.boards import find_board, write_project
from bnncc.errors import ToolchainError

from .test_projects import compiled, model, need  # noqa: F401  the fixture

ARDUINO = """
#include <stdint.h>
struct Port { void begin(long); template <class T> void println(T); };
extern Port Serial;
unsigned long micros();
void delay(unsigned long);
"""


@pytest.fixture
def project(compiled, tmp_path):  # noqa: F811
    """Return the folder of a project, written twice, as a user would after a change."""
    board = find_board("arduino-nano-33-ble")
    for _ in range(2):
        write_project(board, compiled("tfc_1w1a", board.target), tmp_path / "proj")
    return tmp_path / "proj"


def test_the_arduino_library_holds_the_same_c_and_its_sketch_is_sound(project, tmp_path):
    need("g++")
    library = project / "arduino" / "tfc_1w1a"
    for ending in ("c", "h"):
        assert (library / "src" / f"tfc_1w1a.{ending}").read_bytes() == (project / f"tfc_1w1a.{ending}").read_bytes()
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    assert (properties["name"], properties["includes"]) == ("tfc_1w1a", "tfc_1w1a.h") and "mbed_nano" in properties["architectures"]
    sketch = (library / "examples" / "tfc_1w1a_run" / "tfc_1w1a_run.ino").read_text()
    (tmp_path / "sketch.cpp").write_text(ARDUINO + sketch)
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{library / 'src'}", str(tmp_path / "sketch.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_zephyr_module_names_files_that_are_there(project):
    module = (project / "zephyr" / "module.yml").read_text()
    assert "name: tfc_1w1a" in module and "  cmake: zephyr\n  kconfig: zephyr/Kconfig" in module
    assert "config TFC_1W1A\n" in (project / "zephyr" / "Kconfig").read_text()
    text = (project / "zephyr" / "CMakeLists.txt").read_text()
    assert "if(CONFIG_TFC_1W1A)" in text and "${CMAKE_CURRENT_SOURCE_DIR}/../tfc_1w1a.c" in text and "-ffp-contract=off" in text


@pytest.mark.parametrize(("target", "prefix"), [("cortex-m3", "arm-none-eabi-"), ("riscv32imc", "riscv64-unknown-elf-")])
def test_an_object_file_defines_one_name(tmp_path, target, prefix):
    need(f"{prefix}gcc", f"{prefix}nm")
    metadata = bnncc.compile(model("tfc_1w1a"), target=target, output_format="object").save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(metadata["files"]) == ["metadata.json", "tfc_1w1a.h", "tfc_1w1a.o"]
    listed = subprocess.run([f"{prefix}nm", "-g", "--defined-only", "tfc_1w1a.o"], cwd=tmp_path / "out", capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in listed.splitlines()] == ["tfc_1w1a_run"]


def test_without_a_compiler_an_object_file_is_refused_and_c_is_offered(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="arm-none-eabi-gcc is not installed.*--format c"):
        bnncc.compile(model("tfc_1w1a"), target="cortex-m0", output_format="object").save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
