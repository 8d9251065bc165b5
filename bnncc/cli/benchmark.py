"""``bnncc benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnncc.cli import console
from bnncc.cli.options import Folder, Json, Rpc, RpcKey, Threads, Timeout, opener_of, refuse_device
from bnncc.cli.values import whole
from bnncc.nearest import nearest

__all__ = ["benchmark"]


def benchmark(
    folder: Folder,
    against: Annotated[
        list[str],
        typer.Option(
            metavar="[openvino=|larq=]MODEL",
            help="Run this model beside it, in the same process: in onnxruntime, or in another program. May be given several times.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  Typer copies it
    threads: Threads = 1,
    repeat: Annotated[int, typer.Option(parser=whole(1), metavar="N", help="Samples of each; one call, or more where a call is short.")] = 30,
    rpc: Rpc = None,
    key: RpcKey = "",
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Count the instructions of a firmware project under QEMU, or measure a compiled model's latency, beside onnxruntime's and other programs' when asked.

    With --rpc it runs on a device, whose own clock measures.
    """
    from bnncc.boards import is_project

    if is_project(folder):
        from bnncc.report.firmware import count_firmware

        refuse_device(rpc, key, threads)
        if against:
            raise typer.BadParameter("instructions of firmware are counted, which has no like in other programs.", param_hint="'--against'")
        counts = count_firmware(folder, **({} if timeout is None else {"timeout": timeout}))
        console.show(counts, as_json)
        return
    model, peers = _sides(against)
    from bnncc.report.benchmark import benchmark as measure

    with console.progress() as progress:
        report = measure(folder, model, peers=peers, threads=threads, repeat=repeat, progress=progress, opener=opener_of(rpc, key, timeout, threads))
    console.show(report, as_json)


def _sides(against: list[str]) -> tuple[Path | None, dict[str, Path]]:
    """Return the model for onnxruntime and, by name, those for other programs; a program named alone runs onnxruntime's model."""
    from bnncc.report.peers import PEERS

    model, peers = None, {}
    for text in against:
        name, equals, path = text.partition("=")
        if name in PEERS:
            peers[name] = Path(path) if equals else None
        elif equals and not Path(text).exists():  # a path may hold a "="
            raise typer.BadParameter(f"{name!r} is none of {', '.join(PEERS)}.{nearest(name, PEERS)}", param_hint="'--against'")
        elif model is None:
            model = Path(text)
        else:
            raise typer.BadParameter(f"{model} and {text} are two models for onnxruntime; one is measured at a time.", param_hint="'--against'")
    for name, path in peers.items():
        if path is None and model is None:
            raise typer.BadParameter(f"{name} is to run which model? Give --against {name}=MODEL, or --against MODEL.onnx too.", param_hint="'--against'")
    return model, {name: path or model for name, path in peers.items()}
