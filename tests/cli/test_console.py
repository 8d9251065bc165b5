"""What goes to which stream."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from bnncc.cli import console


def test_progress_draws_nothing_where_stderr_is_no_terminal(capfd):
    with console.progress() as report:
        report("import", 0, 2)
        report("import", 2, 2)
    assert capfd.readouterr() == ("", "")


def test_progress_draws_a_bar_where_stderr_is_a_terminal_and_keeps_stdout_clean():
    steps = "report('kernels', 1, 2); report('kernels', 2, 2)"
    code = f"from bnncc.cli import console\nwith console.progress() as report: {steps}\nprint('result')"
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "xterm"}
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=env, timeout=60)
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert result.stdout == b"result\n"
    assert "kernels" in drawn and "2/2" in drawn


def test_warnings_are_paragraphs_on_stderr_and_brackets_stay_as_they_are(capsys):
    console.warn(["layer [red]conv[/red]\n stays float", "another"])
    assert capsys.readouterr() == ("", "warning: layer [red]conv[/red] stays float\nwarning: another\n")


def test_json_is_plain_text_on_stdout(capsys):
    console.print_json({"a": [1]})
    assert capsys.readouterr() == ('{\n  "a": [\n    1\n  ]\n}\n', "")
