"""A folder that is no compiled model, is damaged, or is for another machine is refused before anything runs."""

from __future__ import annotations

import json
import platform

import pytest
from codegen import modules

from bnncc.errors import LibraryError, TargetError, ToolchainError
from bnncc.runtime import load
from bnncc.targets import find_target
from bnncc.targets.x86 import runs_here


@pytest.fixture
def out(tmp_path):
    modules.emit_popcount(tmp_path / "out")
    return tmp_path / "out"


def change_metadata(out, **changes):
    path = out / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_folder_and_library_name_the_same_model(out, monkeypatch):
    assert load(out).path == load(str(out / "libnet.so")).path
    monkeypatch.chdir(out)
    assert load("libnet.so").inputs == load(".").inputs


def test_a_path_without_anything_is_refused(tmp_path):
    with pytest.raises(LibraryError, match="does not exist"):
        load(tmp_path / "nothing")


def test_a_folder_without_metadata_is_refused(tmp_path):
    with pytest.raises(LibraryError, match="is not a compiled model: it has no metadata.json"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '"text"'])
def test_damaged_metadata_is_refused(out, content):
    (out / "metadata.json").write_text(content)
    with pytest.raises(LibraryError, match="damaged or not bnncc's"):
        load(out)


def test_binary_metadata_is_refused(out):
    (out / "metadata.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LibraryError, match="damaged or not bnncc's"):
        load(out)


def test_metadata_that_cannot_be_read_is_refused(out):
    (out / "metadata.json").unlink()
    (out / "metadata.json").mkdir()
    with pytest.raises(LibraryError, match="cannot be read"):
        load(out)


def test_metadata_without_a_field_is_refused(out):
    metadata = json.loads((out / "metadata.json").read_text())
    for field in ("name", "triple", "library_sha256", "entries", "inputs", "variants", "features"):
        (out / "metadata.json").write_text(json.dumps({key: value for key, value in metadata.items() if key != field}))
        with pytest.raises(LibraryError, match=f"damaged or not bnncc's .*{field}"):
            load(out)


def test_metadata_of_another_program_is_refused(out):
    change_metadata(out, format="other")
    with pytest.raises(LibraryError, match="describes no library"):
        load(out)


def test_metadata_of_another_version_is_refused(out):
    change_metadata(out, format_version=99)
    with pytest.raises(LibraryError, match="format version 99, this bnncc reads 1"):
        load(out)


def test_a_missing_library_is_refused(out):
    (out / "libnet.so").unlink()
    with pytest.raises(LibraryError, match="libnet.so is missing"):
        load(out)


def test_a_library_that_cannot_be_read_is_refused(out):
    (out / "libnet.so").unlink()
    (out / "libnet.so").mkdir()
    with pytest.raises(LibraryError, match="cannot be read"):
        load(out)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:4000] + b"\0" + b[4001:], lambda b: b""], ids=["cut", "changed", "empty"]
)
def test_a_damaged_library_is_refused(out, damage):
    content = (out / "libnet.so").read_bytes()
    damaged = damage(content)
    if damaged == content:
        damaged = content[:4000] + b"\1" + content[4001:]
    (out / "libnet.so").write_bytes(damaged)
    with pytest.raises(LibraryError, match="damaged or not the one"):
        load(out)


def test_another_file_of_the_folder_is_refused(out):
    with pytest.raises(LibraryError, match="net.h is not the library"):
        load(out / "net.h")


def test_a_library_that_the_loader_refuses_is_refused(out, monkeypatch):
    def refuse(path):
        raise OSError("invalid ELF header")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    with pytest.raises(LibraryError, match="cannot be loaded: invalid ELF header"):
        load(out)


def test_a_library_for_another_architecture_is_refused_where_there_is_no_emulator(out, monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"(?s)qemu-x86_64 was not found.*apt install qemu-user gcc-x86-64-linux-gnu libc6-dev-amd64-cross"):
        load(out)


@pytest.mark.skipif(runs_here(find_target("x86-64-v4").variants[0]), reason="this machine has all of AVX-512 that v4 needs")
def test_a_library_for_more_than_this_machine_has_says_what_is_missing(tmp_path):
    modules.emit_popcount(tmp_path / "out", target="x86-64-v4")
    with pytest.raises(TargetError, match=r"compiled for x86-64-v4, but this machine lacks .*avx512vpopcntdq.*--target x86-64"):
        load(tmp_path / "out")


def test_the_generated_check_of_the_processor_agrees_with_the_kernels(out, tmp_path):
    """Of the features that any variant asks for, the library finds those that the operating system lists."""
    import ctypes

    from bnncc.targets.x86 import cpu_flags

    metadata = modules.emit_popcount(tmp_path / "all", target="x86-64")
    library = ctypes.CDLL(str(tmp_path / "all" / "libnet.so"))
    flags = {flag.replace("avx512_", "avx512") for flag in cpu_flags()}
    if not flags:
        pytest.skip("no /proc/cpuinfo to compare with")
    assert [bool(library.net_has_feature(i)) for i in range(len(metadata["features"]))] == [
        name in flags for name in metadata["features"]
    ]


def test_replacing_a_library_that_is_open_leaves_it_running(tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    x, first, second = rng.integers(0, 2**64, (16, 4), dtype=np.uint64), *rng.integers(0, 2**64, (2, 4, 8), dtype=np.uint64)
    modules.emit_popcount(tmp_path / "out", first)
    old = load(tmp_path / "out")
    modules.emit_popcount(tmp_path / "out", second)
    np.testing.assert_array_equal(old(x), modules.popcount_reference(x, first))
    np.testing.assert_array_equal(load(tmp_path / "out")(x), modules.popcount_reference(x, second))
