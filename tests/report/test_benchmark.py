"""The benchmark measures both sides on the same inputs and says what they differ by."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from bnncc.codegen.emit import emit_library
from bnncc.errors import InputError, LibraryError, ModelFormatError
from bnncc.report.benchmark import BenchmarkReport, Latency, _measure, benchmark, duration
from bnncc.report.samples import random_array
from bnncc.runtime import TensorSpec
from bnncc.targets import find_target


@I.ir_module
class Doubling:
    @T.prim_func(s_tir=True, private=True)
    def double(x: T.Buffer((1, 4), "float32"), y: T.Buffer((1, 4), "float32")):
        for i in range(4):
            with T.sblock("y"):
                j = T.axis.spatial(4, i)
                y[0, j] = x[0, j] * T.float32(2)

    @R.function
    def main(x: R.Tensor((1, 4), "float32")) -> R.Tensor((1, 4), "float32"):
        cls = Doubling
        with R.dataflow():
            y = R.call_tir(cls.double, (x,), out_ty=R.Tensor((1, 4), "float32"))
            R.output(y)
        return y


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled") / "out"
    native = find_target("native")
    x, y = TensorSpec("x", (1, 4), "float32"), TensorSpec("y", (1, 4), "float32")
    emit_library(
        {v.name: Doubling for v in native.variants}, name="doubling", target=native, inputs=[x], outputs=[y], metadata={}, out=folder
    )
    return folder


def save_scaling(path, factor: float, x: str = "x", shape: tuple[int, ...] = (1, 4), op: str = "Mul"):
    """Write the ONNX model y = x * factor."""
    graph = helper.make_graph(
        [helper.make_node(op, [x, "factor"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("factor", TensorProto.FLOAT, (), [factor])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_both_sides_are_measured_and_agree(compiled, tmp_path):
    report = benchmark(compiled, save_scaling(tmp_path / "m.onnx", 2), repeat=3)
    assert report.differences == {"y": 0.0}
    assert report.ratio == report.onnxruntime.median / report.bnncc.median
    for latency in (report.bnncc, report.onnxruntime):
        assert 0 < latency.fastest <= latency.quartiles[0] <= latency.median <= latency.quartiles[1]
        assert latency.calls_a_sample > 1


def test_another_models_outputs_show_as_a_difference(compiled, tmp_path):
    report = benchmark(compiled, save_scaling(tmp_path / "m.onnx", 3), repeat=1, seed=1)
    x = np.random.default_rng(1).standard_normal((1, 4)).astype(np.float32)
    assert report.differences["y"] == pytest.approx(np.abs(x).max(), rel=1e-6)


def test_without_a_model_only_the_library_is_measured(compiled):
    report = benchmark(compiled, repeat=1)
    assert (report.onnxruntime, report.ratio, report.differences) == (None, None, {})
    assert "onnxruntime" not in report.versions


def test_progress_counts_the_samples(compiled):
    seen = []
    benchmark(compiled, repeat=2, progress=lambda *step: seen.append(step))
    assert seen == [("measure", 1, 2), ("measure", 2, 2)]


def test_json_holds_figures_machine_and_versions(compiled, tmp_path):
    report = benchmark(compiled, save_scaling(tmp_path / "m.onnx", 2), repeat=1)
    read = json.loads(json.dumps(report.to_json()))
    assert read["name"] == "doubling" and read["inputs"] == {"x": "float32[1, 4]"}
    assert read["bnncc"]["median"] == report.bnncc.median
    assert read["machine"]["cores"] >= 1 and {"bnncc", "onnxruntime", "numpy", "python"} <= set(read["versions"])


def text_of(**changes) -> str:
    latency = Latency(2e-6, 1e-6, (1.5e-6, 3e-6), 500)
    given = dict(
        name="net", target="native", variant="v3", inputs={"x[0]": "float32[1, 4]"}, repeat=30, threads=1, bnncc=latency, onnxruntime=None,
        ratio=None, differences={}, machine={"processor": "CPU", "cores": 2}, versions={"bnncc": "0"},
    )  # fmt: skip
    console = Console(width=160)
    with console.capture() as capture:
        BenchmarkReport(**(given | changes)).to_text(console)
    return capture.get()


def test_text_shows_medians_ratio_and_difference():
    text = text_of(onnxruntime=Latency(3.5e-3, 3e-3, (3.2e-3, 4e-3), 1), ratio=1750.0, differences={"y": 0.25})
    assert "net for native (code v3), input x[0] float32[1, 4]" in text
    assert "2 µs" in text and "3.5 ms" in text and "1750.00 times as fast" in text and "output y: largest difference 0.25" in text


def test_text_says_when_bnncc_is_slower():
    assert "bnncc takes 2.00 times as long as onnxruntime." in text_of(onnxruntime=Latency(1e-6, 1e-6, (1e-6, 1e-6), 9), ratio=0.5)


def test_text_without_comparison_names_no_onnxruntime():
    assert "onnxruntime" not in text_of()


@pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0125, "12.5 ms"), (1e-3, "1 ms"), (3.04e-6, "3.04 µs")])
def test_durations_have_a_fitting_unit(seconds, text):
    assert duration(seconds) == text


def test_short_calls_are_grouped_and_long_ones_are_not():
    """A sample lasts ten milliseconds: so many calls of 1 µs and of 2 ms, one of 20 ms."""
    _, counts = _measure([lambda calls: 1e-6, lambda calls: 0.002, lambda calls: 0.02], 1, lambda *step: None)
    assert counts == [10000, 5, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_random_arrays_have_the_shape_and_type_of_the_input(dtype):
    array = random_array(TensorSpec("x", (5, 40), dtype), np.random.default_rng(0))
    assert array.shape == (5, 40) and array.dtype == dtype and len(np.unique(array)) >= 2
    assert dtype != "uint8" or array.max() > 200  # an image's bytes; other integers may be indices


def test_a_folder_without_a_compiled_model_is_an_error(tmp_path):
    with pytest.raises(LibraryError):
        benchmark(tmp_path)


def test_a_missing_model_is_an_error(compiled, tmp_path):
    with pytest.raises(ModelFormatError, match="none.onnx to compare with does not exist"):
        benchmark(compiled, tmp_path / "none.onnx")


def test_a_file_that_onnxruntime_cannot_read_is_an_error(compiled, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelFormatError, match="onnxruntime cannot run"):
        benchmark(compiled, tmp_path / "m.onnx")


def test_a_model_with_other_inputs_is_an_error(compiled, tmp_path):
    with pytest.raises(InputError, match="is not the model that doubling was compiled from: its inputs are z"):
        benchmark(compiled, save_scaling(tmp_path / "m.onnx", 2, x="z"))


def test_a_model_with_another_shape_is_an_error(compiled, tmp_path):
    with pytest.raises(InputError, match="does not take the compiled model's inputs"):
        benchmark(compiled, save_scaling(tmp_path / "m.onnx", 2, shape=(1, 5)))


def test_both_sides_get_the_threads_asked_for(compiled, tmp_path):
    with pytest.raises(InputError, match="was compiled for 1 thread, 2 were asked for"):
        benchmark(compiled, save_scaling(tmp_path / "m.onnx", 2), threads=2)
