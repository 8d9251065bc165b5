"""Values of options: what is taken, and what is said of the rest, in our own words."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum

import typer

from bnncc.nearest import nearest

__all__ = ["one_of", "shown", "seconds", "whole"]


def shown(choices: type[Enum]) -> str:
    """Return the values of an option as its help shows them."""
    return f"[{'|'.join(choice.value for choice in choices)}]"


def one_of(choices: type[Enum]) -> Callable[[str | Enum], Enum]:
    """Return the parser of an option with few values.

    Raises
    ------
    typer.BadParameter
        By the parser, where the value is none of them.
    """
    names = [choice.value for choice in choices]

    def parse(value: str | Enum) -> Enum:
        try:
            return choices(value)  # a default is one already
        except ValueError:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(names)}.{nearest(value, names)}") from None

    return parse


def whole(least: int, most: float = math.inf) -> Callable[[str | int], int]:
    """Return the parser of a whole number.

    Raises
    ------
    typer.BadParameter
        By the parser, where the value is none, or out of these bounds.
    """
    wanted = f"a whole number from {least}" + (f" to {most}" if most < math.inf else "")

    def parse(value: str | int) -> int:
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            raise typer.BadParameter(f"{str(value)!r} is not {wanted}.")
        return number

    return parse


def seconds(value: str | float) -> float:
    """Return a time of at least a second.

    Raises
    ------
    typer.BadParameter
        The value is no number, or less.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 1 <= number < math.inf:
        raise typer.BadParameter(f"{str(value)!r} is not a number of seconds from 1, such as 60.")
    return number
