"""Finding a C compiler, and what its failure looks like."""

from __future__ import annotations

import importlib.util
import stat
import sys

import numpy as np
import pytest

from bnncc import toolchain
from bnncc.errors import ToolchainError
from bnncc.runtime import load
from codegen import modules

TRIPLE = "x86_64-linux-gnu"


def script(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return folder


def test_the_variable_cc_goes_first_and_may_hold_options(empty_path, monkeypatch):
    script(empty_path, "cc", "exit 0")
    script(empty_path, "mycc", "exit 0")
    monkeypatch.setenv("CC", "mycc -m64 '-DX=a b'")
    assert toolchain.find_compiler(TRIPLE) == ["mycc", "-m64", "-DX=a b"]


def test_the_systems_compilers_are_tried_in_order(empty_path):
    script(empty_path, "clang", "exit 0")
    assert toolchain.find_compiler(TRIPLE) == ["clang"]
    script(empty_path, "gcc", "exit 0")
    assert toolchain.find_compiler(TRIPLE) == ["gcc"]
    script(empty_path, "cc", "exit 0")
    assert toolchain.find_compiler(TRIPLE) == ["cc"]


def test_the_ziglang_package_serves_where_there_is_no_compiler(empty_path, monkeypatch, tmp_path):
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert toolchain.find_compiler(TRIPLE) == [sys.executable, "-m", "ziglang", "cc", "-target", TRIPLE]


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="the package ziglang is not installed")
def test_the_ziglang_package_links_a_library_that_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    modules.emit_network(tmp_path / "out", "x86-64")
    x = np.ones((6, 8), np.float32)
    np.testing.assert_array_equal(load(tmp_path / "out")(x)["again"], modules.network_reference(x)["again"])


def test_no_compiler_at_all_says_what_to_install(empty_path, monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=r"(?s)apt install gcc libc6-dev.*pip install ziglang"):
        modules.emit_popcount(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cc_that_does_not_exist_is_named(empty_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-cc -O2")
    with pytest.raises(ToolchainError, match="CC is 'no-such-cc -O2', but there is no such program"):
        toolchain.find_compiler(TRIPLE)


def test_a_cc_that_is_no_command_line_is_named(empty_path, monkeypatch):
    monkeypatch.setenv("CC", "gcc 'x")
    with pytest.raises(ToolchainError, match='CC is "gcc \'x", which is no command'):
        toolchain.find_compiler(TRIPLE)


def test_a_failing_compiler_shows_its_last_lines(tmp_path, monkeypatch):
    failing = script(tmp_path, "failing", 'for i in $(seq 50); do echo "line $i" >&2; done; exit 3')
    monkeypatch.setenv("CC", str(failing))
    with pytest.raises(ToolchainError) as caught:
        modules.emit_popcount(tmp_path / "out")
    assert "(exit 3)" in str(caught.value)
    assert str(caught.value).endswith("line 49\nline 50")
    assert "line 30\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_compiler_that_cannot_be_started_is_named(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF not a program")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(ToolchainError, match="cannot be run"):
        modules.emit_popcount(tmp_path / "out")
    assert not (tmp_path / "out").exists()
