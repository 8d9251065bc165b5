"""``bnncc inspect``."""

from __future__ import annotations

from bnncc.cli import console
from bnncc.cli.options import Json, Model, Shapes, SignZero, SignZeroOption, TargetName, parse_shapes

__all__ = ["inspect"]


def inspect(
    model: Model,
    target: TargetName = "x86-64",
    shape: Shapes = [],  # noqa: B006  Typer copies it
    sign_zero: SignZeroOption = SignZero.exact,
    as_json: Json = False,
) -> None:
    """Show layer by layer what runs on bits and why the rest does not, with sizes, MACs and memory."""
    shapes = parse_shapes(shape)
    from bnncc.report.inspect import inspect_model

    with console.progress() as progress:
        report = inspect_model(model, target=target, shapes=shapes, sign_zero=sign_zero.value, progress=progress)
    if as_json:
        console.print_json(report.to_json())
    else:
        report.to_text(console.stdout())
