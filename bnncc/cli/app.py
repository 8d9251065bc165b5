"""The list of commands, and the options that stand before a command."""

from __future__ import annotations

from typing import Annotated

import typer

import bnncc
from bnncc.cli import failure
from bnncc.cli.benchmark import benchmark
from bnncc.cli.compile import compile_model
from bnncc.cli.inspect import inspect
from bnncc.cli.profile import profile
from bnncc.cli.project import project
from bnncc.cli.run import run
from bnncc.cli.targets import targets
from bnncc.cli.tune import tune
from bnncc.cli.verify import verify

__all__ = ["app"]

app = typer.Typer(
    name="bnncc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # failure.told shows them
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bnncc {bnncc.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", envvar=failure.DEBUG_VARIABLE, help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Compile trained binary neural networks from ONNX into exact, dependency-free libraries.

    Results go to stdout, the log to stderr. Exit code: 0 ok, 1 an error that is told, 2 wrong usage.
    """
    failure.show_tracebacks(debug)


# in the order in which they are used on a new model; each imports what it calls only when it is chosen
for _name, _command in {
    "inspect": inspect,
    "compile": compile_model,
    "project": project,
    "run": run,
    "verify": verify,
    "benchmark": benchmark,
    "profile": profile,
    "tune": tune,
    "targets": targets,
}.items():
    app.command(_name)(failure.told(_command))
