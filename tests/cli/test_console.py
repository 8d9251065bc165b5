"""What goes to which stream."""

from __future__ import annotations

from bnncc.cli import console


def test_progress_draws_nothing_where_stderr_is_no_terminal(capfd):
    with console.progress() as report:
        report("import", 0, 2)
        report("import", 2, 2)
    assert capfd.readouterr() == ("", "")


def test_warnings_are_paragraphs_on_stderr_and_brackets_stay_as_they_are(capsys):
    console.warn(["layer [red]conv[/red]\n stays float", "another"])
    assert capsys.readouterr() == ("", "warning: layer [red]conv[/red] stays float\nwarning: another\n")


def test_json_is_plain_text_on_stdout(capsys):
    console.print_json({"a": [1]})
    assert capsys.readouterr() == ('{\n  "a": [\n    1\n  ]\n}\n', "")
