"""The profile tells each kernel call, its work, and what bounds it."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from bnncc.compiler import compile
from bnncc.errors import LibraryError, TargetError, ToolchainError
from bnncc.report import limits
from bnncc.report import profile as module
from bnncc.report.limits import Meter
from bnncc.report.profile import profile
from bnncc.runtime.threads import checked_count

from .network import binary_network

MACS = {"stem": 36 * 8 * 27, "conv_1": 16 * 70 * 72, "conv_2": 4 * 9 * 630, "dense": 5 * 36}
"""Multiply-accumulates by hand: pixels x channels x inputs."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled") / "out"
    compile(binary_network(), target="native", name="small").save(folder)
    return folder


@pytest.fixture(scope="module")
def report(compiled):
    return profile(compiled, repeat=3)


def test_every_layer_is_a_step_with_its_multiply_accumulates(report):
    assert [step.macs for step in report.steps if step.macs] == list(MACS.values())


def test_steps_name_the_tensors_that_they_make_and_take_time(report):
    assert {"bits_0", "bits_1", "bits_2", "y"} <= {name for step in report.steps for name in step.writes}
    assert all(step.seconds > 0 and step.moved_bytes > 0 for step in report.steps)


def test_the_report_is_text_and_json(report):
    console = Console(width=300, record=True)
    report.to_text(console)
    assert "bits_1" in console.export_text()
    rows = json.loads(json.dumps(report.to_json()))["steps"]
    assert [row["macs"] for row in rows] == [step.macs for step in report.steps]


def test_steps_that_threads_share_are_measured_as_they_share_them(tmp_path, report):
    compile(binary_network(), target="native", name="small", threads=2).save(tmp_path / "out")
    shared = profile(tmp_path / "out", threads=2, repeat=3)
    assert shared.threads == checked_count(2)
    assert [(step.writes, step.macs) for step in shared.steps] == [(step.writes, step.macs) for step in report.steps]
    assert all(step.seconds > 0 for step in shared.steps)
    if shared.threads == 2:
        assert all(step.limit_reason.endswith(" x 2") for step in shared.steps if step.limit)


def test_a_layer_is_bounded_by_its_formulation_and_other_steps_by_copying():
    meter = Meter("x86_64-linux-gnu")
    meter.rate = lambda variant, formulation: {"lookup": 500.0}.get(formulation)
    meter._copy_ns = lambda nbytes: nbytes / 10
    layer = meter.limit("v3", "lookup, uint64 words", 1000, 8)
    assert layer.seconds == pytest.approx(2e-9) and layer.reason.startswith("lookup")
    assert meter.limit("v3", "elementwise", 0, 4000).seconds == pytest.approx(200e-9)  # 20 bytes a nanosecond, read and written
    assert meter.limit("v3", "of a kind that no mix is known for", 1000, 8) is None


def test_a_library_of_another_version_is_refused(compiled, tmp_path):
    for file in compiled.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    del metadata["model"]["steps"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(LibraryError, match="another version of bnncc"):
        profile(tmp_path)


def test_what_only_an_emulator_runs_is_not_profiled(compiled, monkeypatch):
    monkeypatch.setattr(module, "is_native", lambda triple: False)
    with pytest.raises(TargetError, match="times say nothing"):
        profile(compiled)


def test_a_compiler_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(limits, "find_compiler", lambda triple: ["false"])
    with pytest.raises(ToolchainError, match="exit 1"):
        Meter("x86_64-linux-gnu")
