from __future__ import annotations

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


def test_a_model_that_does_not_exist_is_told(tmp_path):
    found = CliRunner().invoke(app, ["tune", str(tmp_path / "absent.onnx"), "--database", str(tmp_path)])
    assert found.exit_code == 1
