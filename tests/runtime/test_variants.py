"""A library for any x86-64 picks its code by the processor it is loaded on: every processor computes the same, and one that is too old is told."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from report.network import as_model

from bnncc.compiler import compile
from bnncc.errors import TargetError
from bnncc.report.reference import Reference
from bnncc.runtime import emulator, library, load
from bnncc.targets import find_target
from bnncc.targets.x86 import runs_here

LEVELS = {"v2": "Nehalem-v1", "v3": "Haswell-v4"}
emulated = pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-user is not installed")


def binary_network() -> onnx.ModelProto:
    """Return signs, binary convolutions of 64 -> 256 -> 96 channels and a binary dense layer: sums of +-1, which float32 adds without rounding."""
    rng = np.random.default_rng(5)
    nodes, stored, x = [], [], "x"
    for i, (inputs, outputs, size) in enumerate(((64, 256, 3), (256, 96, 1), (96 * 36, 70, 0))):
        shape = (outputs, inputs, size, size) if size else (outputs, inputs)
        stored.append(numpy_helper.from_array(rng.choice([-1.0, 1.0], shape).astype(np.float32), f"w{i}"))
        # the inputs of every layer are even in number, so with +-1 added no sum is 0
        stored.append(numpy_helper.from_array(rng.choice([-1.0, 1.0], (outputs, 1, 1) if size else (outputs,)).astype(np.float32), f"b{i}"))
        nodes.append(helper.make_node("Sign", [x], [f"s{i}"]))
        if not size:
            nodes.append(helper.make_node("Flatten", [f"s{i}"], [f"f{i}"]))
        kind = ("Conv", [f"s{i}", f"w{i}"], {}) if size else ("Gemm", [f"f{i}", f"w{i}"], {"transB": 1})
        nodes.append(helper.make_node(kind[0], kind[1], [f"c{i}"], **kind[2]))
        nodes.append(helper.make_node("Add", [f"c{i}", f"b{i}"], [x := f"a{i}" if size else "y"]))
    return as_model(nodes, stored, (1, 64, 8, 8), (1, 70))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(6).normal(size=(1, 64, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(image):
    """What onnxruntime computes; sums of +-1 are exact whatever the order."""
    return Reference(binary_network(), ["y"]).run({"x": image})["y"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants") / "out"
    compile(binary_network(), target="x86-64", name="net").save(folder)
    return folder


def on_processor(monkeypatch, model: str) -> None:
    """Let libraries of this architecture run under an emulated processor."""
    monkeypatch.setattr(library, "is_native", lambda triple: False)
    monkeypatch.setattr(emulator, "find_emulator", lambda triple: [shutil.which("qemu-x86_64"), "-cpu", model])
    monkeypatch.setattr(emulator, "find_compiler", lambda triple: ["gcc"])


@pytest.mark.parametrize("variant", find_target("x86-64").variants, ids=lambda v: v.name)
def test_each_instruction_set_alone_computes_what_the_reference_does(variant, image, expected, tmp_path):
    if not runs_here(variant):
        pytest.skip(f"this machine does not run {variant.name}; no emulator at hand has AVX-512")
    compile(binary_network(), target=f"x86-64-{variant.name}", name="net").save(tmp_path / "out")
    np.testing.assert_array_equal(load(tmp_path / "out")(image), expected)


@emulated
@pytest.mark.parametrize("variant", LEVELS)
def test_a_shipped_library_picks_the_code_of_the_processor(variant, shipped, image, expected, monkeypatch):
    on_processor(monkeypatch, LEVELS[variant])
    model = load(shipped)
    assert model.variant == f"{variant}, emulated"
    np.testing.assert_array_equal(model(image), expected)


@emulated
def test_a_processor_below_every_variant_is_told(shipped, monkeypatch):
    on_processor(monkeypatch, "Conroe-v1")  # SSSE3, no POPCNT
    with pytest.raises(TargetError, match="lacks instructions that it needs"):
        load(shipped)
