"""Running commands on the example network, for the tests beside this file."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from bnncc.cli.app import app

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
MODEL = str(DIGITS / "digits.onnx")


def bnncc(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": None})


def assert_told(result, *words: str) -> None:
    """Check that the command failed with one paragraph on stderr that holds `words`."""
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "bug" not in result.stderr and all(word in result.stderr for word in words)
