"""``bnncc run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnncc.cli.options import Folder, Rpc, RpcKey, Threads, Timeout, opener_of, refuse_device

__all__ = ["run"]


def run(
    folder: Folder,
    inputs: Annotated[
        list[str],
        typer.Option("--input", metavar="[NAME=]X.npy", help="An input; with its name where there are several.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="Y.npy", help="Where the output goes; several go into a .npz. Without it they are printed.", show_default=False)
    ] = None,
    threads: Threads = 1,
    rpc: Rpc = None,
    key: RpcKey = "",
    timeout: Timeout = None,
) -> None:
    """Run a compiled model, here or on a device, or a firmware project under QEMU, on arrays from .npy files."""
    from bnncc.boards import is_project, run_project
    from bnncc.cli.arrays import read_inputs, write_outputs

    if is_project(folder):
        refuse_device(rpc, key, threads)
        limit = {} if timeout is None else {"timeout": timeout}
        outputs = _stacked(run_project(folder, _samples(folder, read_inputs(inputs)), **limit))
    else:
        outputs = opener_of(rpc, key, timeout, threads)(folder)(read_inputs(inputs))
    if output is not None:
        write_outputs(output, outputs)
    for name, array in outputs.items() if isinstance(outputs, dict) else [(output or "output", outputs)]:
        print(f"{name}  {array.dtype}  {'x'.join(map(str, array.shape))}")
        if output is None:
            print(array)


def _samples(folder: Path, arrays) -> list[dict]:
    """Cut the arrays into the samples of a firmware project."""
    import json

    from bnncc.report.samples import samples_of
    from bnncc.spec import TensorSpec

    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    return samples_of(arrays, [TensorSpec(t["name"], tuple(t["shape"]), t["dtype"]) for t in metadata["inputs"]])


def _stacked(results: list[dict]):
    """Join the samples' outputs along the first axis; one output is an array, several are a dict."""
    import numpy as np

    joined = {name: np.concatenate([r[name] for r in results]) if results[0][name].ndim else np.stack([r[name] for r in results]) for name in results[0]}
    return next(iter(joined.values())) if len(joined) == 1 else joined
