from __future__ import annotations

import pytest
from typer.testing import CliRunner

from bnncc.cli.app import app
from bnncc.tuning.database import Database
from bnncc.tuning.record import Record


def test_merge_appends_the_records_of_other_folders(tmp_path):
    Database(tmp_path / "theirs").append(Record("t", "w", "k", "u", {}, "ok", "seconds", 1.0, 2.0, "m"))
    found = CliRunner().invoke(app, ["tune", "merge", str(tmp_path / "theirs"), "--database", str(tmp_path / "ours")])
    assert found.exit_code == 0 and "1 records added" in found.stdout
    assert len(Database(tmp_path / "ours").records()) == 1


def test_merge_without_folders_is_a_usage_error(tmp_path):
    assert CliRunner().invoke(app, ["tune", "merge", "--database", str(tmp_path)]).exit_code == 2


def test_two_models_are_a_usage_error(tmp_path):
    assert CliRunner().invoke(app, ["tune", "a.onnx", "b.onnx", "--database", str(tmp_path)]).exit_code == 2


@pytest.mark.parametrize(
    ("wrong", "options"),
    [
        ("--serial", ["--serial", "/dev/ttyACM0"]),
        ("--optimize-for", ["--optimize-for", "flash"]),
        ("--target", ["--board", "mps2-an386", "--target", "cortex-m7"]),
        ("--rpc", ["--board", "mps2-an386", "--rpc", "host:9190"]),
        ("--emulate", ["--board", "mps2-an386", "--emulate"]),
        ("--emulate", ["--target", "cortex-a55", "--emulate", "--rpc", "host:9190"]),
        ("--key", ["--key", "pi"]),
    ],
)
def test_an_option_that_would_be_left_aside_is_a_usage_error(wrong, options, tmp_path):
    found = CliRunner().invoke(app, ["tune", "m.onnx", "--database", str(tmp_path), *options], env={"COLUMNS": "200"})
    assert found.exit_code == 2 and f"Invalid value for '{wrong}'" in found.stderr


def test_a_model_that_does_not_exist_is_told(tmp_path):
    found = CliRunner().invoke(app, ["tune", str(tmp_path / "absent.onnx"), "--database", str(tmp_path)])
    assert found.exit_code == 1


def test_targets_say_for_how_many_layers_there_are_records(tmp_path, monkeypatch):
    import json

    from bnncc.targets.x86 import V3
    from bnncc.tuning.shipped import shipped_database
    from bnncc.tuning.target_key import target_key

    monkeypatch.setenv("BNNCC_TUNING_DIR", str(tmp_path))
    for workload in ("a", "b", "b"):
        Database(tmp_path).append(Record(target_key(V3), workload, "k", "u", {}, "ok", "seconds", 1.0, 2.0, "m"))
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["targets", "--json"]).stdout)}
    assert rows["x86-64"]["tuned_layers"] == {"v2": 0, "v3": 2, "v4": 0}
    assert set(rows["cortex-m4"]["tuned_layers"].values()) == {0}
    shipped = {record.workload for record in shipped_database().records(target_key(V3))}
    assert rows["x86-64"]["shipped_layers"] == {"v2": 0, "v3": len(shipped), "v4": 0}
    assert "2 for v3" in CliRunner().invoke(app, ["targets"]).stdout


@pytest.mark.parametrize(
    ("plot", "said"), [("absent/plot.svg", "there is no folder"), ("plot.strange", "ends in .svg or .png"), ("plot", "ends in .svg or .png")]
)
def test_a_plot_that_cannot_be_drawn_is_told_before_anything_is_tuned(plot, said, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("bnncc.report.tune.tune_model", lambda *args, **more: pytest.fail("tuned"))
    found = CliRunner().invoke(app, ["tune", "model.onnx", "--database", str(tmp_path), "--plot", str(tmp_path / plot)])
    assert found.exit_code == 1 and said in " ".join(found.stderr.split())


def test_an_interrupt_says_that_records_are_kept(tmp_path, monkeypatch):
    def interrupted(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("bnncc.report.tune.tune_model", interrupted)
    found = CliRunner().invoke(app, ["tune", "model.onnx", "--database", str(tmp_path)])
    assert found.exit_code == 130 and "kept in" in found.output
