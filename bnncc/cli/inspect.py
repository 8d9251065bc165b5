"""``bnncc inspect``."""

from __future__ import annotations

from bnncc.cli import console
from bnncc.cli.byte_inputs import InputScales, InputTypes, InputZeros
from bnncc.cli.options import (
    DEFAULT_TARGET,
    Arithmetic,
    BoardName,
    DatabaseFolder,
    FirstLayer,
    Json,
    LastLayer,
    Model,
    OptimizeFor,
    OptimizeForOption,
    Shapes,
    SignZero,
    SignZeroOption,
    TargetOrNone,
    refuse_target,
    source_options,
)

__all__ = ["inspect"]


def inspect(
    model: Model,
    target: TargetOrNone = None,
    board: BoardName = None,
    shape: Shapes = [],  # noqa: B006  Typer copies it
    input_type: InputTypes = [],  # noqa: B006
    input_scale: InputScales = [],  # noqa: B006
    input_zero: InputZeros = [],  # noqa: B006
    first_layer: FirstLayer = Arithmetic.exact,
    last_layer: LastLayer = Arithmetic.exact,
    sign_zero: SignZeroOption = SignZero.exact,
    optimize_for: OptimizeForOption = OptimizeFor.speed,
    database: DatabaseFolder = None,
    as_json: Json = False,
) -> None:
    """Show layer by layer what runs on bits and why the rest does not, with sizes, MACs and memory; for a board its flash, RAM, stack and cycles as well."""
    source = source_options(shape, input_type, input_scale, input_zero, first_layer, last_layer, sign_zero)
    refuse_target(target, board)
    on_board = None
    if board is not None:
        from bnncc.boards import find_board
        from bnncc.report.board import inspect_board

        target = find_board(board).target
        on_board = inspect_board(model, board, **source, optimize_for=optimize_for.value)
    from bnncc.report.inspect import inspect_model

    with console.progress() as progress:
        report = inspect_model(model, target=target or DEFAULT_TARGET, **source, optimize_for=optimize_for.value, database=database or True, progress=progress)
    if as_json:
        console.print_json({**report.to_json(), **({"board": on_board.to_json()} if on_board else {})})
        return
    report.to_text(console.stdout())
    if on_board is not None:
        on_board.to_text(console.stdout())
