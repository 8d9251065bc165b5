"""The profile tells each kernel call, its work, and what bounds it."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from bnncc.compiler import compile
from bnncc.errors import LibraryError, TargetError, ToolchainError
from bnncc.report import limits
from bnncc.report import profile as module
from bnncc.report.limits import Meter, StepWork
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


@pytest.fixture
def meter():
    meter = Meter("x86_64-linux-gnu")
    meter.rate = lambda variant, formulation: {"lookup": 500.0, "float": 50.0}.get(formulation)
    meter._stream_ns = lambda nbytes, only_read: nbytes / (10 if only_read else 5)
    return meter


def test_a_layer_is_bounded_by_its_formulation(meter):
    layer = meter.limit("v3", "lookup, uint64 words", StepWork(1000, 8, 4, 0, 0))
    assert layer.seconds == pytest.approx(2e-9) and layer.reason == "lookup 500 GMAC/s"
    planes = meter.limit("v3", "2 x 3 bit planes, lookup, uint64 words", StepWork(1000, 8, 4, 0, 0))
    assert planes.seconds == pytest.approx(12e-9) and planes.reason == layer.reason


def test_memory_bounds_what_is_moved_and_large_weights(meter):
    """Read at 10 bytes a nanosecond; copied at 5 that are read and 5 that are written."""
    assert meter.limit("v3", "elementwise", StepWork(0, 4000, 2000, 0, 0)).seconds == pytest.approx(400e-9)
    assert meter.limit("v3", "average", StepWork(0, 4000, 0, 0, 0)).seconds == pytest.approx(400e-9)
    dense = meter.limit("v3", "float, tile", StepWork(1000, 80, 40, 4000, 4000))
    assert dense.seconds == pytest.approx(408e-9) and dense.reason == "memory 10 GB/s"
    one, two = (meter.limit("v3", f"of a table, cases of {pixels}, ", StepWork(0, 0, 0, 4000, 4000)).seconds for pixels in ("1 pixel", "2 pixels"))
    assert one == pytest.approx(500 / 4000 * meter.limit("v3", "elementwise", StepWork(0, 0, 0, 4000, 4000)).seconds)
    assert two == pytest.approx(15 / 8 * one), "of eight cases the second pixel reads another one seven times of eight"
    assert meter.limit("v3", "of a kind that no mix is known for", StepWork(1000, 0, 0, 0, 0)) is None


def test_the_arena_is_hardly_larger_than_what_is_alive_at_once(report):
    assert 0 < report.live_bytes <= report.arena_bytes <= 1.1 * report.live_bytes


def test_no_step_is_faster_than_its_limit_by_more_than_the_clock(report):
    """Steps here take microseconds, of which the clock is a part."""
    assert all(step.limit < 1.5 * step.seconds + 1e-6 for step in report.steps if step.limit)


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
