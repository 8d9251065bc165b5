"""The commands on the example network, from ONNX file to answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from bnncc import load as bnncc_load

from .digits_commands import MODEL, assert_told, bnncc


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled") / "out"
    return folder, bnncc("compile", MODEL, "--target", "native", "-o", folder)


def test_compile_writes_library_header_and_metadata_and_lists_them(compiled):
    folder, result = compiled
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(folder)) == ["digits.h", "libdigits.so", "metadata.json"]
    assert all(str(folder / name) in result.stdout for name in os.listdir(folder))
    assert result.stderr == ""


def test_compile_again_into_the_same_folder_with_a_name_and_json(compiled, tmp_path):
    assert bnncc("compile", MODEL, "--target", "native", "-o", tmp_path / "out").exit_code == 0
    result = bnncc("compile", MODEL, "--target", "native", "-o", tmp_path / "out", "--name", "other", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert sorted(os.listdir(tmp_path / "out")) == ["libother.so", "metadata.json", "other.h"]


def test_compile_writes_the_module_after_each_pass(tmp_path):
    result = bnncc("compile", MODEL, "--target", "native", "-o", tmp_path / "out", "--dump-ir", tmp_path / "ir")
    assert result.exit_code == 0, result.output
    dumps = sorted((tmp_path / "ir").iterdir())
    assert len(dumps) > 3 and all("def main" in dump.read_text() for dump in dumps)


def test_run_gives_what_onnxruntime_gives(compiled, images, tmp_path):
    result = bnncc("run", compiled[0], "--input", images, "--output", tmp_path / "y.npy")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'y.npy'}  float32  40x10\n"
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"image": image[None]})[0] for image in np.load(images)])
    assert np.allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-4)


def test_run_without_a_file_for_the_output_prints_it(compiled, images):
    result = bnncc("run", compiled[0], "--input", images)
    assert result.exit_code == 0, result.output
    title, *rows = result.stdout.splitlines()
    wanted = np.concatenate([bnncc_load(compiled[0])(image[None]) for image in np.load(images)])
    found = np.array("".join(rows).replace("[", " ").replace("]", " ").split(), np.float32)
    assert title == "output  float32  40x10"
    np.testing.assert_allclose(found, wanted.ravel(), atol=1e-6)


def test_run_takes_an_input_by_its_name(compiled, images, tmp_path):
    assert bnncc("run", compiled[0], "--input", f"image={images}", "--output", tmp_path / "y.npy").exit_code == 0
    assert np.load(tmp_path / "y.npy").shape == (40, 10)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 1, 8, 8)), ["image", "float64", "float32"]),
        (np.zeros((1, 1, 9, 8), np.float32), ["image", "[1, 1, 9, 8]", "[1, 1, 8, 8]"]),
    ],
    ids=["dtype", "shape"],
)
def test_run_tells_what_does_not_fit_and_writes_nothing(compiled, tmp_path, array, words):
    np.save(tmp_path / "x.npy", array)
    assert_told(bnncc("run", compiled[0], "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"), *words)
    assert not (tmp_path / "y.npy").exists()


def test_run_tells_an_unknown_input_name(compiled, images, tmp_path):
    assert_told(bnncc("run", compiled[0], "--input", f"picture={images}", "--output", tmp_path / "y.npy"), "'picture'", "image")


def test_run_tells_a_folder_that_holds_no_compiled_model(images, tmp_path):
    assert_told(bnncc("run", tmp_path, "--input", images, "--output", tmp_path / "y.npy"), str(tmp_path), "not a compiled model")


def test_benchmark_measures_both_sides(compiled):
    result = bnncc("benchmark", compiled[0], "--against", MODEL, "--repeat", "2", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["ratio"] > 0 and report["differences"]["logits"] < 1e-3
    text = bnncc("benchmark", compiled[0], "--repeat", "1")
    assert text.exit_code == 0 and "median" in text.stdout


def test_a_truncated_model_is_told_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "cut.onnx").write_bytes(Path(MODEL).read_bytes()[:100_000])
    assert_told(bnncc("compile", tmp_path / "cut.onnx", "-o", tmp_path / "out"), "cut.onnx")
    assert os.listdir(tmp_path) == ["cut.onnx"]


def test_a_missing_model_is_told(tmp_path):
    assert_told(bnncc("compile", tmp_path / "none.onnx", "-o", tmp_path / "out"), "none.onnx")


def test_an_unknown_target_is_told_with_the_nearest(tmp_path):
    assert_told(bnncc("compile", MODEL, "--target", "x86-64-v33", "-o", tmp_path / "out"), "'x86-64-v33'", "Did you mean 'x86-64-v3'?")


def test_a_shape_that_does_not_fit_is_told(tmp_path):
    assert_told(bnncc("compile", MODEL, "--shape", "image=1,1,9,9", "-o", tmp_path / "out"), "image")
    assert_told(bnncc("compile", MODEL, "--shape", "picture=1,1,8,8", "-o", tmp_path / "out"), "picture", "image")
    assert os.listdir(tmp_path) == []


def test_a_folder_with_other_content_is_told_and_stays_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("all there is")
    assert_told(bnncc("compile", MODEL, "--target", "native", "-o", tmp_path), str(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_compile_writes_c_for_a_microcontroller(tmp_path):
    result = bnncc("compile", MODEL, "--target", "cortex-m4", "--format", "c", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(tmp_path / "out")) == ["digits.c", "digits.h", "metadata.json"]


def test_compile_says_what_a_format_is_made_from(tmp_path):
    result = bnncc("compile", MODEL, "--target", "cortex-m4", "--format", "so", "-o", tmp_path / "out")
    assert_told(result, "not as so", "`bnncc targets` lists these")
    assert not (tmp_path / "out").exists()


def test_optimize_for_is_refused_where_there_is_nothing_to_choose(tmp_path):
    result = bnncc("compile", MODEL, "--target", "native", "--optimize-for", "ram", "-o", tmp_path / "out")
    assert_told(result, "--optimize-for ram", "kernels in C, of microcontrollers")
