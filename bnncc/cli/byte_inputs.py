"""``--input-type``, ``--input-scale`` and ``--input-zero``: inputs of bytes, as a camera gives them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bnncc.spec import ByteInput

__all__ = ["InputScales", "InputTypes", "InputZeros", "parse_byte_inputs"]

InputTypes = Annotated[
    list[str],
    typer.Option(
        "--input-type", metavar="[NAME=]uint8", help="Let a float32 input take bytes; with its name where there are several.", show_default=False
    ),
]
InputScales = Annotated[
    list[str],
    typer.Option("--input-scale", metavar="[NAME=]S", help="A byte x stands for S * (x - Z); S may be 1/255. By default 1.", show_default=False),
]
InputZeros = Annotated[list[str], typer.Option("--input-zero", metavar="[NAME=]Z", help="Z of --input-scale; by default 0.", show_default=False)]


def parse_byte_inputs(types: list[str], scales: list[str], zeros: list[str]) -> dict[str, ByteInput] | None:
    """Return what the bytes of each input stand for, ``""`` for the only one; None where no input takes bytes.

    Raises
    ------
    typer.BadParameter
        A value is malformed, an input is named twice, or a scale or zero belongs to no input of bytes.
    """
    from bnncc.spec import ByteInput

    kinds = _by_input(types, "--input-type")
    for kind in kinds.values():
        if kind not in ("uint8", "float32"):
            raise typer.BadParameter(f"{kind!r} is no type of input; uint8 and float32, which is the default, are.", param_hint="'--input-type'")
    asked = {name for name, kind in kinds.items() if kind == "uint8"}
    numbers: dict[str, dict[str, float]] = {}
    for option, given in (("--input-scale", scales), ("--input-zero", zeros)):
        for name, text in _by_input(given, option).items():
            if name not in asked:
                of = f" of {name!r}" if name else ""
                raise typer.BadParameter(f"says what the bytes{of} stand for, but no --input-type asks for bytes there.", param_hint=f"'{option}'")
            try:
                numbers.setdefault(name, {})[option.rpartition("-")[2]] = float(Fraction(text))
            except (ValueError, ZeroDivisionError, OverflowError):
                raise typer.BadParameter(f"{text!r} is no number, such as 0.0078125 or 1/255.", param_hint=f"'{option}'") from None
    return {name: ByteInput(**numbers.get(name, {})) for name in asked} or None


def _by_input(given: list[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        if name in found:
            raise typer.BadParameter(f"given twice{f' for {name!r}' if name else ''}.", param_hint=f"'{option}'")
        found[name] = value
    return found
