from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

sys.path[:0] = [str(Path(__file__).parents[1] / "tuning"), str(Path(__file__).parents[1] / "schedules")]

from test_session import NoBuilds, Pretended, ok  # noqa: E402
from tuner import session  # noqa: E402

from bnncc.compiler import compile  # noqa: E402
from bnncc.errors import OutputError, TargetError  # noqa: E402
from bnncc.report.inspect import inspect_model  # noqa: E402
from bnncc.report.tune import TunedTask, TuneReport, tune_model  # noqa: E402
from bnncc.report.tune_plot import plot_history  # noqa: E402
from bnncc.report.tune_progress import TuneProgress  # noqa: E402
from bnncc.report.tuned_network import NetworkTimes, StepTimes, compare_in_network  # noqa: E402
from bnncc.runtime import load  # noqa: E402
from bnncc.targets.x86 import native_variant  # noqa: E402
from bnncc.tuning.database import Database  # noqa: E402
from bnncc.tuning.local import LocalRunner  # noqa: E402
from bnncc.tuning.runner import Measurement  # noqa: E402

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"


def report(**more) -> TuneReport:
    task = TunedTask("conv2d", ("a", "b"), 3, 1, False, 2e-6, 0.8, "tuned, 0.80 of the untuned seconds", "float, tile", (1.0, 0.9, 0.8))
    return TuneReport(**{"target": "native", "variant": "v3", "metric": "seconds", "machine": "here", "database": "db", "tasks": (task,), **more})


def test_log_and_table_tell_each_trial(tmp_path):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    log = tmp_path / "log.jsonl"
    with TuneProgress(3, "instructions", native_variant(), console, log) as progress:
        tuning = session(tmp_path / "db", 3, Pretended(lambda name, job: ok(0.75)), progress, NoBuilds())
        tuning.run()
        plain = Console(file=(text := io.StringIO()), width=200)
        plain.print(progress.table(tuning.states))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["trial"] for row in rows if row["stage"] == "search"] == [1, 2, 3] and rows[-1]["best"] == 0.75
    assert "3/3" in text.getvalue() and "0.75" in text.getvalue() and progress.seconds_left(tuning.states) == 0
    assert "a layer" in out.getvalue()


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="--log"):
        TuneProgress(1, "seconds", native_variant(), Console(quiet=True), tmp_path / "absent" / "log")


def test_the_plot_is_drawn_or_told(tmp_path):
    pytest.importorskip("matplotlib")
    plot_history(report(), tmp_path / "plot.svg")
    assert "trials of this run" in (tmp_path / "plot.svg").read_text() or (tmp_path / "plot.svg").stat().st_size > 5000
    with pytest.raises(OutputError, match="plot cannot be written"):
        plot_history(report(), tmp_path / "plot.strange")


def test_the_report_says_what_compile_does_and_what_is_gained():
    out = io.StringIO()
    report().to_text(Console(file=out, width=200))
    assert "0.800 of the untuned seconds" in out.getvalue() and "3" in out.getvalue()


def test_a_target_that_this_machine_does_not_run_is_told(tmp_path):
    with pytest.raises(TargetError, match="cannot measure kernels"):
        tune_model(DIGITS, target="cortex-a76", database=Database(tmp_path))


@pytest.mark.slow
def test_what_is_tuned_is_compiled_and_computes_the_same(tmp_path, monkeypatch):
    found = tune_model(DIGITS, trials=3, database=Database(tmp_path / "db"))
    assert len(found.tasks) >= 3 and all(task.trials >= 1 for task in found.tasks)
    monkeypatch.setattr("bnncc.tuning.best.LEAST_GAIN", -9.0)  # whatever is best is taken, so that something is
    artifact = compile(DIGITS, target="native", database=tmp_path / "db")
    artifact.save(tmp_path / "tuned")
    compile(DIGITS, target="native", database=False).save(tmp_path / "plain")
    x = np.random.default_rng(0).standard_normal((1, 1, 8, 8)).astype(np.float32)
    assert load(tmp_path / "tuned")(x).tobytes() == load(tmp_path / "plain")(x).tobytes()
    assert inspect_model(DIGITS, target="native", database=tmp_path / "db").steps


def test_kernels_are_measured_in_their_network(tmp_path, monkeypatch):
    """One layer: every candidate is said to take 0.8 of the untuned time alone, and 1.5 in the network."""
    monkeypatch.setattr(LocalRunner, "measure", lambda self, job: Measurement("ok", 0.8 if job.candidate != job.untuned else 1.0, 1.0))
    monkeypatch.setattr("bnncc.report.tune.compare_in_network", lambda *_, **options: NetworkTimes((StepTimes(("y",), "", 512, 1.0, 1.5),), 1.0, 1.5))
    found = tune_model(small_model(), trials=2, database=Database(tmp_path / "db"))
    (verdict,) = (task.verdict for task in found.tasks if "y" in task.layers)
    assert found.network.tuned == 1.5 and "0.80 of the untuned seconds alone, but 1.50 in the network; the untuned one stays" in verdict


def test_both_libraries_of_a_comparison_have_the_same_steps():
    found = compare_in_network(DIGITS, "native", False, turns=2, repeat=5)
    assert len(found.steps) >= 5 and all(step.tuned > 0 and step.untuned > 0 for step in found.steps)
    assert found.untuned < 10 * sum(step.untuned for step in found.steps) and found.gain == found.untuned / found.tuned


@pytest.mark.skipif(
    not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")), reason="qemu-system-arm and gcc-arm-none-eabi are not installed"
)
def test_a_board_counts_instructions(tmp_path):
    found = tune_model(small_model(), board="mps2-an386", trials=1, database=Database(tmp_path / "db"))
    assert found.metric == "instructions" and found.tasks
    records = [json.loads(line) for file in (tmp_path / "db").rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert records and all(record["metric"] == "instructions" for record in records)


def small_model() -> onnx.ModelProto:
    """One binary dense layer."""
    weights = helper.make_node("Sign", ["w"], ["b"])
    nodes = [helper.make_node("Sign", ["x"], ["s"]), weights, helper.make_node("MatMul", ["s", "b"], ["y"])]
    io_specs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 64]), ("y", [1, 8]))]
    w = numpy_helper.from_array(np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32), "w")
    graph = helper.make_graph(nodes, "small", io_specs[:1], io_specs[1:], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
