"""How an error reaches the user: one paragraph on stderr and exit code 1."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable

import typer
from rich.text import Text

from bnncc.cli.console import say
from bnncc.errors import BnnccError, InternalError

__all__ = ["DEBUG_VARIABLE", "show_tracebacks", "told"]

DEBUG_VARIABLE = "BNNCC_DEBUG"
_shown = False


def show_tracebacks(wanted: bool) -> None:
    """Print the traceback of an error before its paragraph."""
    global _shown
    _shown = wanted


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap `command` so that what it raises becomes a paragraph and exit code 1; usage errors pass."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # Typer's own ways out: usage errors, and a reader of stdout that went away
        except Exception as error:
            if _shown:
                traceback.print_exc()
            say(_paragraph(error))
            raise typer.Exit(1) from None

    return wrapped


def _paragraph(error: Exception) -> Text:
    said = " ".join(str(error).split())
    if isinstance(error, BnnccError) and not isinstance(error, InternalError):
        return Text.assemble(("error: ", "bold red"), said)
    kind = "" if isinstance(error, InternalError) else f"{type(error).__name__}: "
    more = "The traceback above shows where." if _shown else f"Run it again with {DEBUG_VARIABLE}=1 to see the traceback."
    bug = f"This is a bug in bnncc, please report it with the model. {kind}{said.rstrip('.')}. {more}"
    return Text.assemble(("error: ", "bold red"), bug)
