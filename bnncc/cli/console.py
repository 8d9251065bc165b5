"""Where output goes: results to stdout, the log and progress bars to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["progress", "print_json", "say", "show", "stderr", "stdout", "warn"]

PIPED_WIDTH = 160  # columns; Rich would squeeze a table into 80 where there is no terminal


def stdout() -> Console:
    """Return the console of the result."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPED_WIDTH if piped else None, highlight=False)


def stderr() -> Console:
    """Return the console of the log."""
    return Console(stderr=True, highlight=False)


def say(paragraph: Text) -> None:
    """Print a paragraph to stderr; a terminal gets it wrapped at words, a file as one line."""
    console = stderr()
    console.print(paragraph, soft_wrap=not console.is_terminal)


def print_json(value: Any) -> None:
    """Print `value` to stdout as indented JSON."""
    print(json.dumps(value, indent=2))


def show(report: Any, as_json: bool) -> None:
    """Print a report to stdout, for machines or for readers."""
    if as_json:
        print_json(report.to_json())
    else:
        report.to_text(stdout())


def warn(messages: Iterable[str]) -> None:
    """Print each message to stderr as a paragraph of its own."""
    for message in messages:
        say(Text.assemble(("warning: ", "bold yellow"), " ".join(message.split())))


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback ``(step, done, total)`` that draws a bar a step on stderr, and nothing where it is no terminal."""
    columns = TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=stderr(), transient=True, disable=not sys.stderr.isatty()) as bars:
        tasks = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield report
