"""Kernels survive on disk, and a damaged or full cache only costs time."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bnncc.codegen import kernels, lower_tir
from bnncc.codegen.cache import KernelCache, cache_directory
from bnncc.runtime import load
from codegen import modules


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNNCC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch):
    """The symbols that are compiled, as opposed to taken from the cache."""
    seen = []
    original = lower_tir.lower_kernel
    monkeypatch.setattr(lower_tir, "lower_kernel", lambda func, symbol, target: seen.append(symbol) or original(func, symbol, target))
    return seen


def test_a_second_compilation_compiles_nothing_and_gives_the_same_library(tmp_path, cache, compiled):
    first = modules.emit_network(tmp_path / "one", "x86-64")
    assert len(compiled) == 4 * 3
    second = modules.emit_network(tmp_path / "two", "x86-64")
    assert len(compiled) == 4 * 3
    assert second == first


def test_a_kernel_of_another_name_is_the_same_kernel(tmp_path, cache, compiled):
    target = modules.find_target("x86-64-v2").variants[0].tvm_target
    requests = [kernels.KernelRequest(name, modules.affine.with_attr("global_symbol", name), target) for name in ("one", "two")]
    one, two = kernels.compile_kernels(requests)
    assert one == two
    assert len(compiled) == 1


def test_another_target_or_attribute_is_another_kernel(cache):
    v2, v3 = (modules.find_target(name).variants[0].tvm_target for name in ("x86-64-v2", "x86-64-v3"))
    contracted = modules.affine.with_attr("bnncc.contract", True)
    requests = [
        kernels.KernelRequest("affine", func, target) for func, target in ((modules.affine, v2), (modules.affine, v3), (contracted, v3))
    ]
    assert len({kernel.symbol for kernel in kernels.compile_kernels(requests)}) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-10],
        lambda content: content.replace(b"\n", b"", 1),
        lambda content: b"\xff" + content[1:],
        lambda content: b"[]\n" + content,
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["empty", "cut", "no head", "not text", "another head", "one bit"],
)
def test_a_damaged_entry_is_compiled_again(tmp_path, cache, compiled, damage):
    modules.emit_popcount(tmp_path / "one")
    (entry,) = cache.glob("*.kernel")
    content = entry.read_bytes()
    entry.write_bytes(damage(content))
    modules.emit_popcount(tmp_path / "two")
    assert len(compiled) == 2
    assert entry.read_bytes() == content
    x = np.random.default_rng(0).integers(0, 2**64, (16, 4), dtype=np.uint64)
    np.testing.assert_array_equal(load(tmp_path / "one")(x), load(tmp_path / "two")(x))


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("BNNCC_CACHE_DIR", str(tmp_path / "file"))
    modules.emit_popcount(tmp_path / "out")
    assert load(tmp_path / "out").variant == "v2"
    assert "cannot be written" in caplog.text


def test_what_was_unused_for_longest_goes_first(tmp_path):
    cache = KernelCache(tmp_path, limit=2500)
    for age, key in enumerate("abc"):
        cache.put(key, {}, bytes(1000))
        os.utime(tmp_path / f"{key}.kernel", (1000 + age, 1000 + age))
    assert cache.get("a") is not None  # used again, so b is the oldest
    cache.trim()
    assert sorted(path.name for path in tmp_path.glob("*.kernel")) == ["a.kernel", "c.kernel"]


def test_a_cache_within_its_limit_keeps_everything(tmp_path):
    cache = KernelCache(tmp_path, limit=10_000)
    for key in "abc":
        cache.put(key, {"scratch": [1]}, b"code")
    cache.trim()
    assert [cache.get(key) for key in "abcd"] == [({"scratch": [1]}, b"code")] * 3 + [None]


def test_entries_are_not_counted_again_within_the_time_given(tmp_path):
    cache = KernelCache(tmp_path, limit=1500)
    cache.put("a", {}, bytes(1000))
    cache.trim(600)
    os.utime(tmp_path / "a.kernel", (1000, 1000))
    cache.put("b", {}, bytes(1000))
    cache.trim(600)
    assert cache.get("a") is not None
    os.utime(tmp_path / "a.kernel", (1000, 1000))
    os.utime(tmp_path / "trimmed", (1000, 1000))
    cache.trim(600)
    assert cache.get("a") is None and cache.get("b") is not None


def test_no_unfinished_file_stays(tmp_path):
    cache = KernelCache(tmp_path)
    cache.put("a", {}, b"code")
    assert [path.name for path in tmp_path.iterdir()] == ["a.kernel"]


def test_the_directory_comes_from_the_environment_or_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("BNNCC_CACHE_DIR", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("BNNCC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "bnncc"
