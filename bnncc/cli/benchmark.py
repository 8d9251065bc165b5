"""``bnncc benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnncc.cli import console
from bnncc.cli.options import Folder, Json

__all__ = ["benchmark"]


def benchmark(
    folder: Folder,
    against: Annotated[
        Path, typer.Option(metavar="MODEL.onnx", help="Run this model in onnxruntime beside it, in the same process.", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="Samples of each; one call, or more where a call is short.")] = 30,
    as_json: Json = False,
) -> None:
    """Measure a compiled model's latency on one thread, beside onnxruntime's when asked."""
    from bnncc.report.benchmark import benchmark as measure

    with console.progress() as progress:
        report = measure(folder, against, repeat=repeat, progress=progress)
    if as_json:
        console.print_json(report.to_json())
    else:
        report.to_text(console.stdout())
