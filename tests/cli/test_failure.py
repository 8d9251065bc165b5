"""Errors leave as one paragraph on stderr and exit code 1."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from bnncc.cli import failure
from bnncc.cli.app import app as bnncc_app
from bnncc.errors import InternalError, ModelError


def run_raising(error: BaseException):
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @failure.told
    def command() -> None:
        print("partial result")
        raise error

    return CliRunner().invoke(app)


@pytest.fixture
def tracebacks():
    failure.show_tracebacks(True)
    yield
    failure.show_tracebacks(False)


def test_an_error_of_ours_is_one_line_without_traceback_when_stderr_is_no_terminal():
    result = run_raising(ModelError("The node 'a [b]'\n  is odd, " + "very " * 60 + "odd."))
    assert result.exit_code == 1
    assert result.stderr == "error: The node 'a [b]' is odd, " + "very " * 60 + "odd.\n"
    assert result.stdout == "partial result\n"


@pytest.mark.parametrize("error", [KeyError("x"), InternalError("KeyError: 'x'"), RecursionError("x")], ids=repr)
def test_another_error_is_called_a_bug_and_says_how_to_see_the_traceback(error):
    result = run_raising(error)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: This is a bug in bnncc") and result.stderr.count("\n") == 1
    assert "x" in result.stderr and "BNNCC_DEBUG=1" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("error", [ModelError("odd"), KeyError("odd")], ids=repr)
def test_debug_shows_the_traceback_before_the_paragraph(error, tracebacks):
    result = run_raising(error)
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback") and result.stderr.splitlines()[-1].startswith("error: ")
    assert "BNNCC_DEBUG" not in result.stderr


@pytest.mark.parametrize(("error", "code"), [(typer.Exit(0), 0), (typer.Exit(3), 3), (typer.BadParameter("no"), 2), (typer.Abort(), 1)])
def test_ways_out_of_typer_pass(error, code):
    result = run_raising(error)
    assert result.exit_code == code
    assert "bug" not in result.stderr


@pytest.mark.parametrize(("arguments", "env"), [(["--debug"], {}), ([], {"BNNCC_DEBUG": "1"})], ids=["option", "variable"])
def test_debug_is_asked_for_by_option_or_variable(arguments, env, tmp_path):
    run = ["run", str(tmp_path), "--input", str(tmp_path / "none.npy"), "--output", str(tmp_path / "y.npy")]
    try:
        shown = CliRunner().invoke(bnncc_app, [*arguments, *run], env=env)
    finally:
        failure.show_tracebacks(False)
    hidden = CliRunner().invoke(bnncc_app, run)
    assert shown.exit_code == hidden.exit_code == 1
    assert "Traceback" in shown.stderr and "Traceback" not in hidden.stderr
