"""``bnncc tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from bnncc.cli import console
from bnncc.cli.options import (
    BoardName,
    DatabaseFolder,
    Json,
    OptimizeFor,
    OptimizeForOption,
    Rpc,
    RpcKey,
    RpcTimeout,
    Shapes,
    SignZero,
    SignZeroOption,
    TargetOrNone,
    parse_shapes,
    refuse_target,
)
from bnncc.cli.values import whole

__all__ = ["tune"]


def tune(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL.onnx | merge FOLDER...", help="The ONNX model; or `merge` and folders of records.")],
    target: TargetOrNone = None,
    board: BoardName = None,
    optimize_for: OptimizeForOption = OptimizeFor.speed,
    serial: Annotated[Path, typer.Option(metavar="PORT", help="Of a real --board: where it answers, /dev/ttyACM0 for instance.", show_default=False)] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Count the instructions of a --target of 64-bit Arm under qemu-aarch64.")] = False,
    trials: Annotated[int, typer.Option(parser=whole(1), metavar="N", help="Kernels to measure for each distinct layer, those of earlier runs counted.")] = 64,
    database: DatabaseFolder = None,
    shape: Shapes = [],  # noqa: B006  Typer copies it
    sign_zero: SignZeroOption = SignZero.exact,
    rpc: Rpc = None,
    key: RpcKey = "",
    timeout: RpcTimeout = 60.0,
    log: Annotated[Path, typer.Option(metavar="FILE", help="Append a line of JSON for each trial.", show_default=False)] = None,
    plot: Annotated[Path, typer.Option(metavar="FILE", help="Draw the best kernel so far over the trials (.svg, .png).", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Search the fastest kernel for each distinct layer of a model by measuring; `compile` uses what is recorded.

    Without --target and --board kernels for this very machine (`native`) are measured on it.

    Ctrl-C keeps what was measured, and a second run goes on. `bnncc tune merge FOLDER... --database INTO` appends records of other databases.
    With --board and --serial a real board is flashed with each candidate, by the command of its manifest, and says its cycles.
    With --rpc devices measure: all of the key that a tracker knows, side by side; one that dies is left out, and its trials are measured by another one.
    """
    from bnncc.tuning.database import Database, database_directory, merge

    folder = database or database_directory()
    if str(models[0]) == "merge":
        if len(models) < 2:
            raise typer.BadParameter("name the folders to merge.", param_hint="'merge'")
        added, held = merge(models[1:], folder)
        print(f"{added} records added to {folder}, {held} were there already")
        return
    if len(models) > 1:
        raise typer.BadParameter("give one model.", param_hint="'MODEL.onnx'")
    refuse_target(target, board)
    _refuse_what_does_not_apply(board, optimize_for, serial, emulate, rpc, key)
    shapes = parse_shapes(shape)
    from bnncc.report.tune import tune_model

    if plot is not None:
        from bnncc.report.tune_plot import check_plot, plot_history

        check_plot(plot)
    runner = None
    if rpc is not None:
        from bnncc.remote import Device
        from bnncc.tuning.remote import RemoteRunner

        runner = lambda chosen: RemoteRunner(Device(rpc, key, timeout), chosen.variants[-1].tvm_target["mtriple"])  # noqa: E731
    elif emulate:
        from bnncc.tuning.emulated import EmulatedRunner

        runner = lambda chosen: EmulatedRunner(chosen.variants[-1].tvm_target["mtriple"], chosen.name)  # noqa: E731
    try:
        report = tune_model(
            models[0],
            runner=runner,
            target=target or "native",
            board=board,
            optimize_for=optimize_for.value,
            serial=serial,
            trials=trials,
            database=Database(folder),
            shapes=shapes,
            sign_zero=sign_zero.value,
            console=console.stderr(),
            log=log,
        )
    except KeyboardInterrupt:
        console.say(Text(f"Interrupted. What was measured is kept in {folder}; the same command goes on from there."))
        raise typer.Exit(130) from None
    console.show(report, as_json)
    if plot is not None:
        plot_history(report, plot)


def _refuse_what_does_not_apply(board: str | None, optimize_for: OptimizeFor, serial: Path | None, emulate: bool, rpc: str | None, key: str) -> None:
    """Raise where an option is given that what measures would leave aside."""
    of_board = "it is of a microcontroller, which --board names."
    instead = "a --board is tuned as its own target, under QEMU or at a --serial port; give one or the other."
    rules = [
        ("--serial", board is None and serial is not None, of_board),
        ("--optimize-for", board is None and optimize_for is not OptimizeFor.speed, of_board),
        ("--rpc", board is not None and rpc is not None, instead),
        ("--emulate", board is not None and emulate, instead),
        ("--emulate", rpc is not None and emulate, "with --rpc devices measure; give one or the other."),
        ("--key", rpc is None and bool(key), "it is a device's, whose address --rpc gives."),
    ]
    for option, is_wrong, reason in rules:
        if is_wrong:
            raise typer.BadParameter(reason, param_hint=f"'{option}'")
