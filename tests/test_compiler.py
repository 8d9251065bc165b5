"""compile() as Python sees it: names, targets, outputs, warnings, and the same bytes every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc
from bnncc.compiler import CompiledArtifact, prepare
from bnncc.errors import InputError, ModelFormatError, ModelShapeError, OutputError, TargetError
from bnncc.passes.context import Options
from bnncc.targets import target_names

NATIVE = "native"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test reads or fills the user's cache; kernels of this file are shared."""
    monkeypatch.setenv("BNNCC_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "kernels"))


def network(*, batch: int | str = 2, binary_input: bool = True, graph: str = "net") -> onnx.ModelProto:
    """Return x (batch, 40) -> [sign] -> matrix of signs -> BatchNorm-like scale -> comparison -> matrix of signs -> y (batch, 3)."""
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.choice([-1, 1], (40, 33)).astype(np.float32),
        "gamma": rng.standard_normal(33).astype(np.float32),
        "beta": rng.standard_normal(33).astype(np.float32),
        "w2": rng.choice([-0.5, 0.5], (33, 3)).astype(np.float32),
        "zero": np.float32(0),
        "plus": np.float32(1),
        "minus": np.float32(-1),
    }
    nodes = [
        *([helper.make_node("Sign", ["x"], ["a"], "input_sign")] if binary_input else [helper.make_node("Identity", ["x"], ["a"])]),
        helper.make_node("MatMul", ["a", "w1"], ["b"], "first"),
        helper.make_node("Mul", ["b", "gamma"], ["c"]),
        helper.make_node("Add", ["c", "beta"], ["d"]),
        helper.make_node("Less", ["d", "zero"], ["e"]),
        helper.make_node("Where", ["e", "minus", "plus"], ["f"]),
        helper.make_node("MatMul", ["f", "w2"], ["y"], "second"),
    ]
    inputs, outputs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, k])] for n, k in (("x", 40), ("y", 3)))
    made = helper.make_graph(nodes, graph, inputs, outputs, [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(batch: int = 2) -> np.ndarray:
    drawn = np.random.default_rng(1).standard_normal((batch, 40)).astype(np.float32)
    drawn[0, :4] = 0  # a plain Sign of these is 0
    return drawn


def onnxruntime_of(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.fixture(scope="module")
def compiled() -> CompiledArtifact:
    return bnncc.compile(network(), target=NATIVE)


def test_a_model_is_compiled_saved_loaded_and_called(compiled, tmp_path):
    metadata = compiled.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metadata.json").read_text()) == json.loads(json.dumps(metadata))
    got = bnncc.load(tmp_path / "out")(images())
    got = next(iter(got.values())) if isinstance(got, dict) else got
    np.testing.assert_array_equal(got, onnxruntime_of(network(), images()))


@pytest.mark.parametrize("file, expected", [("net.onnx", "net"), ("my model.v2.onnx", "my_model_v2"), ("3-layers.onnx", "t3_layers")])
def test_the_library_is_named_after_the_file(tmp_path, file, expected):
    onnx.save(network(), tmp_path / file)
    assert bnncc.compile(tmp_path / file, target=NATIVE).name == expected
    assert bnncc.compile(str(tmp_path / file), target=NATIVE).name == expected


def test_the_library_is_named_after_the_graph_or_as_asked():
    assert bnncc.compile(network(graph="resnet 18"), target=NATIVE).name == "resnet_18"
    assert bnncc.compile(network(), target=NATIVE, name="über model").name.isidentifier()
    assert bnncc.compile(network(), target=NATIVE, name="chosen").name == "chosen"


@pytest.mark.parametrize("asked, nearest", [("x86-64-v33", "x86-64-v3"), ("nativ", "native"), ("x86_64", "x86-64")])
def test_an_unknown_target_is_told_with_the_nearest_and_all_there_are(asked, nearest):
    with pytest.raises(TargetError, match=f"Did you mean '{nearest}'") as caught:
        bnncc.compile(network(), target=asked)
    assert all(name in str(caught.value) for name in target_names())


def test_a_target_like_no_other_is_told_without_a_guess():
    with pytest.raises(TargetError) as caught:
        bnncc.compile(network(), target="z80")
    assert "Did you mean" not in str(caught.value)


def test_the_target_is_checked_before_the_model_is_read(tmp_path):
    with pytest.raises(TargetError):
        bnncc.compile(tmp_path / "missing.onnx", target="z80")


def test_a_file_that_is_no_model_is_told(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFormatError):
        bnncc.compile(tmp_path / "bad.onnx", target=NATIVE)


def test_open_dimensions_are_closed_by_shapes():
    with pytest.raises(ModelShapeError, match="other"):
        bnncc.compile(network(batch="n"), target=NATIVE, shapes={"other": (5, 40)})
    assert bnncc.compile(network(batch="n"), target=NATIVE, shapes={"x": (5, 40)}).model.inputs[0].shape == (5, 40)


SCRIPT = """
import sys
import bnncc
bnncc.compile(sys.argv[1], target="x86-64-v3").save(sys.argv[2])
"""


def test_two_compilations_in_two_processes_give_the_same_bytes(tmp_path):
    onnx.save(network(), tmp_path / "net.onnx")
    contents = []
    for seed in ("1", "2"):
        # a cache of its own, or the second run would only copy what the first compiled
        environment = {**os.environ, "PYTHONHASHSEED": seed, "BNNCC_CACHE_DIR": str(tmp_path / f"cache{seed}")}
        out = tmp_path / f"out{seed}"
        subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "net.onnx", out], env=environment, check=True, timeout=300)
        contents.append({file.name: file.read_bytes() for file in out.iterdir()})
    assert contents[0].keys() == contents[1].keys()
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []


def test_an_earlier_output_is_replaced(compiled, tmp_path):
    first = compiled.save(tmp_path)
    other = bnncc.compile(network(), target=NATIVE, name="other")
    other.save(tmp_path)
    assert bnncc.load(tmp_path).metadata["name"] == "other" != first["name"]
    assert not [file for file in tmp_path.iterdir() if file.name.startswith("net")]


def test_a_folder_of_somebody_else_is_left_alone(compiled, tmp_path):
    (tmp_path / "thesis.tex").write_text("a year of work")
    with pytest.raises(OutputError, match="thesis.tex"):
        compiled.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_binary_layer_of_real_numbers_is_warned_of_in_all_places(tmp_path):
    artifact = bnncc.compile(network(binary_input=False), target=NATIVE)
    (warning,) = artifact.warnings
    assert "first" in warning and "real-valued" in warning
    assert artifact.report.warnings == artifact.warnings
    metadata = artifact.save(tmp_path / "out")
    assert warning in metadata["model"]["warnings"]


def test_a_model_on_bits_alone_is_compiled_without_warning(compiled):
    assert compiled.warnings == []
    assert [(row.node, row.bits) for row in compiled.report.layers] == [("first", True), ("second", True)]


def test_signs_whose_zero_matters_are_named(compiled):
    assert compiled.report.sign_zeros == {"a": 40}


@pytest.mark.parametrize("choice, value", [("exact", 0.0), ("plus", 1.0), ("minus", -1.0)])
def test_the_sign_of_zero_is_what_was_chosen(tmp_path, choice, value):
    bnncc.compile(network(), target=NATIVE, sign_zero=choice).save(tmp_path / "out")
    got = bnncc.load(tmp_path / "out")(images())
    got = next(iter(got.values())) if isinstance(got, dict) else got
    x = images()
    np.testing.assert_array_equal(got, onnxruntime_of(network(), np.where(x == 0, np.float32(value), x)))


def test_the_module_is_dumped_after_each_pass(tmp_path):
    bnncc.compile(network(), target=NATIVE, dump_ir=str(tmp_path / "ir"))
    assert (tmp_path / "ir" / "00_import.py").is_file() and len(list((tmp_path / "ir").iterdir())) > 10


def test_progress_is_told_from_import_to_kernels(tmp_path):
    seen = []
    bnncc.compile(network(), target=NATIVE, progress=lambda *step: seen.append(step)).save(tmp_path / "out")
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert stages == ["passes", "schedules", "kernels"]
    for stage in stages:
        done = [(d, total) for s, d, total in seen if s == stage]
        assert done[-1][0] == done[-1][1] and [d for d, _ in done] == sorted(d for d, _ in done)


def test_prepare_stops_at_the_groups():
    imported, fused, context = prepare(network(), Options())
    assert [spec.name for spec in imported.inputs] == ["x"] and len(context.layers) == 2
    assert any(g.name_hint.startswith("group_") for g in fused.get_global_vars())


@pytest.mark.parametrize("target", [name for name in target_names() if name != NATIVE])
def test_every_target_generates_every_kernel(target):
    artifact = bnncc.compile(network(), target=target)
    lowered, notes = artifact.lower()
    assert list(lowered) == list(notes) == [variant.name for variant in artifact.target.variants]
    assert all(notes.values())


def test_an_expression_of_this_tvm_can_be_saved_as_json():
    """apache-tvm-ffi 0.1.15 ends the process here, and with it whatever stores a tuning record; pyproject.toml pins an older one."""
    code = "import tvm; from tvm import tirx; print(len(tvm.ir.save_json(tirx.Var('i', 'int32') + 1)) > 2)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_an_unknown_choice_for_sign_zero_is_the_callers_error():
    with pytest.raises(InputError, match="exact, plus, minus"):
        bnncc.compile(network(), sign_zero="zero")
