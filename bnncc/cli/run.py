"""``bnncc run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnncc.cli.options import Folder

__all__ = ["run"]


def run(
    folder: Folder,
    inputs: Annotated[
        list[str],
        typer.Option("--input", metavar="[NAME=]X.npy", help="An input; with its name where there are several.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="Y.npy", help="Where the output goes; several go into a .npz.", show_default=False)
    ],
) -> None:
    """Run a compiled model on arrays from .npy files."""
    from bnncc.cli.arrays import read_inputs, write_outputs
    from bnncc.runtime import load

    outputs = load(folder)(read_inputs(inputs))
    write_outputs(output, outputs)
    for name, array in outputs.items() if isinstance(outputs, dict) else [(output, outputs)]:
        print(f"{name}  {array.dtype}  {'x'.join(map(str, array.shape))}")
