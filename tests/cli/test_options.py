"""Option values: what is taken, and that the rest is a usage error."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from bnncc.cli.app import app
from bnncc.cli.options import parse_name, parse_shapes


def test_shapes_are_read_by_input_name():
    assert parse_shapes(["x=1,3,32,32", "mask=7"]) == {"x": (1, 3, 32, 32), "mask": (7,)}


def test_an_input_name_may_hold_an_equals_sign():
    assert parse_shapes(["serving=x:0=1,2"]) == {"serving=x:0": (1, 2)}


def test_no_shape_is_none():
    assert parse_shapes([]) is None


@pytest.mark.parametrize("text", ["1,3,32,32", "x=", "=1,2", "x=1,,2", "x=1,a", "x=-1,3", "x=1.5", "x=1, 2", "x=1,2,", "x", ""])
def test_a_malformed_shape_is_refused(text):
    with pytest.raises(typer.BadParameter, match="is not NAME=N,C,H,W"):
        parse_shapes([text])


def test_a_dimension_of_zero_is_refused():
    with pytest.raises(typer.BadParameter, match="dimension of 0"):
        parse_shapes(["x=1,0,3"])


def test_a_second_shape_for_an_input_is_refused():
    with pytest.raises(typer.BadParameter, match="'x' is given two shapes"):
        parse_shapes(["x=1,2", "x=1,2"])


@pytest.mark.parametrize("name", [None, "digits", "_a1"])
def test_a_c_identifier_is_taken_as_a_name(name):
    assert parse_name(name) == name


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "größe", "a\n"])
def test_another_name_is_refused(name):
    with pytest.raises(typer.BadParameter, match="no C identifier"):
        parse_name(name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["compile"],
        ["compile", "m.onnx", "--shape", "x=1,a"],
        ["compile", "m.onnx", "--name", "1a"],
        ["compile", "m.onnx", "--sign-zero", "maybe"],
        ["compile", "m.onnx", "--nonsense"],
        ["compile", "m.onnx", "--threads", "65"],
        ["tune", "m.onnx", "--timeout", "nan"],
        ["inspect", "m.onnx", "--shape", "x"],
        ["verify", "m.onnx", "--input", "x.npy", "--shape", "x=0"],
        ["verify", "m.onnx", "--input", "x.npy", "--limit", "0"],
        ["run", "out"],
        ["benchmark", "out", "--repeat", "0"],
        ["benchmark", "out", "--repeat", "often"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_with_the_reason_on_stderr(arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--optimize-for", "size", "'size' is none of speed, flash, ram."),
        ("--sign-zero", "plu", "'plu' is none of exact, plus, minus. Did you mean 'plus'?"),
        ("--format", "obj", "'obj' is none of so, object, c. Did you mean 'object'?"),
        ("--first-layer", "fix", "'fix' is none of exact, fixed. Did you mean 'fixed'?"),
        ("--last-layer", "", "'' is none of exact, fixed."),
        ("--threads", "65", "'65' is not a whole number from 1 to 64."),
        ("--threads", "1.5", "'1.5' is not a whole number from 1 to 64."),
    ],
)
def test_a_wrong_value_is_told_in_our_own_words(option, value, said):
    result = CliRunner().invoke(app, ["compile", "m.onnx", option, value], env={"COLUMNS": "200"})
    assert result.exit_code == 2 and f"Invalid value for '{option}': {said} " in result.stderr


def test_what_an_option_takes_is_in_the_help():
    shown = CliRunner().invoke(app, ["compile", "--help"], env={"COLUMNS": "200"}).stdout
    assert all(values in shown for values in ("[speed|flash|ram]", "[exact|plus|minus]", "[exact|fixed]", "[so|object|c]", "[default: speed]"))
