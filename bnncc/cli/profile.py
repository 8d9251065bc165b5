"""``bnncc profile``."""

from __future__ import annotations

from typing import Annotated

import typer

from bnncc.cli import console
from bnncc.cli.options import Folder, Json, Threads
from bnncc.cli.values import whole

__all__ = ["profile"]


def profile(
    folder: Folder,
    threads: Threads = 1,
    repeat: Annotated[int, typer.Option(parser=whole(1), metavar="N", help="Calls of the network.")] = 30,
    as_json: Json = False,
) -> None:
    """Show the time of each step of a compiled model, and the share of what this machine could reach."""
    from bnncc.report.profile import profile as measure

    with console.progress() as progress:
        report = measure(folder, threads=threads, repeat=repeat, progress=progress)
    console.show(report, as_json)
