"""``bnncc verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from bnncc.cli import console
from bnncc.cli.byte_inputs import InputScales, InputTypes, InputZeros
from bnncc.cli.options import (
    DEFAULT_TARGET,
    Arithmetic,
    BoardName,
    FirstLayer,
    Json,
    LastLayer,
    Model,
    OptimizeFor,
    OptimizeForOption,
    Rpc,
    RpcKey,
    Shapes,
    SignZero,
    SignZeroOption,
    TargetName,
    Timeout,
    opener_of,
    source_options,
)
from bnncc.cli.values import whole

__all__ = ["verify"]


def verify(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Option("--input", metavar="[NAME=]X.npy", help="Samples; with the input's name where there are several. Else random.", show_default=False),
    ] = [],  # noqa: B006
    target: TargetName = DEFAULT_TARGET,
    board: BoardName = None,
    shape: Shapes = [],  # noqa: B006  Typer copies it
    input_type: InputTypes = [],  # noqa: B006
    input_scale: InputScales = [],  # noqa: B006
    input_zero: InputZeros = [],  # noqa: B006
    first_layer: FirstLayer = Arithmetic.exact,
    last_layer: LastLayer = Arithmetic.exact,
    sign_zero: SignZeroOption = SignZero.exact,
    optimize_for: OptimizeForOption = OptimizeFor.speed,
    limit: Annotated[int, typer.Option(parser=whole(1), metavar="N", help="Check the first N samples only, or draw N.", show_default=False)] = None,
    rpc: Rpc = None,
    key: RpcKey = "",
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Check that the binarized part of a compiled model equals the ONNX model bit for bit; exit 1 when it does not.

    What is compiled for another processor runs under an emulator, or on a device by --rpc; the report says which.

    With a board its firmware runs the samples in QEMU as well, and its outputs are compared with those of this machine's library.
    """
    source = source_options(shape, input_type, input_scale, input_zero, first_layer, last_layer, sign_zero)
    if board is not None:  # said before the checks that take long
        from bnncc.boards import find_board, require_tools

        require_tools(find_board(board), runs=True)
    from bnncc.cli.arrays import read_inputs
    from bnncc.report.verify import verify_model

    arrays = read_inputs(inputs) if inputs else None
    with console.progress() as progress:
        report = verify_model(
            model, target=target, inputs=arrays, **source, limit=limit, progress=progress, opener=opener_of(rpc, key, timeout)
        )
    firmware = []
    if board is not None:
        from bnncc.report.board import verify_firmware

        waits = {} if timeout is None else {"timeout": timeout}
        firmware = verify_firmware(model, board, arrays, **source, optimize_for=optimize_for.value, limit=limit, **waits)
    if as_json:
        console.print_json({**report.to_json(), **({"firmware": [row.to_json() for row in firmware]} if board else {})})
    else:
        report.to_text(console.stdout())
        for row in firmware:
            print(row)
    if not (report.ok and all(row.ok for row in firmware)):
        raise typer.Exit(1)
