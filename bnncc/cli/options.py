"""Arguments and options that several commands share, and the parsing of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bnncc.cli.byte_inputs import parse_byte_inputs
from bnncc.cli.values import one_of, seconds, shown, whole

__all__ = [
    "DEFAULT_TARGET",
    "Arithmetic",
    "BoardName",
    "FirstLayer",
    "DatabaseFolder",
    "Folder",
    "Format",
    "FormatOption",
    "Json",
    "LastLayer",
    "Model",
    "Name",
    "OptimizeFor",
    "OptimizeForOption",
    "Rpc",
    "RpcKey",
    "RpcTimeout",
    "Shapes",
    "SignZero",
    "SignZeroOption",
    "TargetName",
    "TargetOrNone",
    "Threads",
    "Timeout",
    "opener_of",
    "refuse_device",
    "refuse_target",
    "parse_name",
    "parse_shapes",
    "source_options",
]


DEFAULT_TARGET = "x86-64"


class SignZero(str, Enum):
    """What the sign of 0 becomes."""

    exact = "exact"
    plus = "plus"
    minus = "minus"


class Format(str, Enum):
    """What a compiled model is written as."""

    so = "so"
    object = "object"
    c = "c"


class Arithmetic(str, Enum):
    """Of a layer that bits do not take."""

    exact = "exact"
    fixed = "fixed"


class OptimizeFor(str, Enum):
    """What kernels are chosen for."""

    speed = "speed"
    flash = "flash"
    ram = "ram"


Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX model.", show_default=False)]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A compiled model: what `compile -o FOLDER` wrote.", show_default=False)]
TargetName = Annotated[str, typer.Option("--target", help="What to generate code for; `bnncc targets` lists them.")]
TargetOrNone = Annotated[
    str, typer.Option("--target", help="What to generate code for, where no --board is named; `bnncc targets` lists them.", show_default=False)
]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        **{"parser": one_of(Format), "metavar": shown(Format)},
        help="so: a shared library; object: an object file that a program links; c: C99 for any compiler, which for "
        "microcontrollers is what is made best, for others portable and slower than a library. By default what the target makes.",
        show_default=False,
    ),
]
OptimizeForOption = Annotated[
    OptimizeFor,
    typer.Option(
        "--optimize-for",
        **{"parser": one_of(OptimizeFor), "metavar": shown(OptimizeFor)},
        help="Kernels of microcontrollers: speed (sliced, 4 bits of flash a weight), flash (nibbles, 2 bits) or ram (trees: 1 bit and no tables in RAM).",
    ),
]
FirstLayer = Annotated[
    Arithmetic,
    typer.Option(
        "--first-layer",
        **{"parser": one_of(Arithmetic), "metavar": shown(Arithmetic)},
        help="fixed: round the weights of the first layer to fixed point of up to 16 bits, where integers do not say them exactly.",
    ),
]
LastLayer = Annotated[
    Arithmetic,
    typer.Option(
        "--last-layer",
        **{"parser": one_of(Arithmetic), "metavar": shown(Arithmetic)},
        help="fixed: the same of the last layer. `verify` says what differs from the source.",
    ),
]
BoardName = Annotated[
    str, typer.Option("--board", help="A microcontroller board instead of a target; `bnncc targets` lists them.", show_default=False)
]
DatabaseFolder = Annotated[
    Path, typer.Option("--database", metavar="FOLDER", help="Tuning records; by default those of this user.", show_default=False)
]
Shapes = Annotated[
    list[str],
    typer.Option("--shape", metavar="NAME=1,3,32,32", help="Fix the shape of an input; once an input.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Name = Annotated[
    str, typer.Option("--name", help="C identifier for the library and its function; by default from the file name.", show_default=False)
]
SignZeroOption = Annotated[
    SignZero,
    typer.Option(
        "--sign-zero",
        **{"parser": one_of(SignZero), "metavar": shown(SignZero)},
        help="Sign(0) of an ONNX Sign: exact (two bit planes where 0 can occur), or one bit, plus or minus.",
    ),
]
Rpc = Annotated[
    str,
    typer.Option(
        "--rpc", metavar="HOST:PORT", help="On a device: the address of TVM's RPC server there, or of a tracker.", show_default=False
    ),
]
RpcKey = Annotated[str, typer.Option("--key", help="With --rpc: what the server, or a device of the tracker, was started with.", show_default=False)]
RpcTimeout = Annotated[float, typer.Option("--timeout", parser=seconds, metavar="SECONDS", help="With --rpc: how long a session and each call may take.")]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        parser=seconds,
        metavar="SECONDS",
        help="How long a session with a device and each call of it (60), or a firmware under QEMU (300) may take.",
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option("--threads", parser=whole(1), metavar="N", help="How many threads share a call; results do not depend on it.")]


def parse_shapes(given: list[str]) -> dict[str, tuple[int, ...]] | None:
    """Parse ``--shape`` values such as ``x=1,3,32,32``.

    Returns
    -------
    dict or None
        Shape by input name; None where no shape was given.

    Raises
    ------
    typer.BadParameter
        A value is malformed, or an input is named twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, equals, dims = text.rpartition("=")  # ONNX names may hold a "="
        if not (name and equals and re.fullmatch(r"[0-9]+(,[0-9]+)*", dims)):
            raise typer.BadParameter(f"{text!r} is not NAME=N,C,H,W, such as x=1,3,32,32.", param_hint="'--shape'")
        shape = tuple(int(d) for d in dims.split(","))
        if 0 in shape:
            raise typer.BadParameter(f"{text!r} holds a dimension of 0; give whole numbers from 1.", param_hint="'--shape'")
        if name in shapes:
            raise typer.BadParameter(f"the input {name!r} is given two shapes.", param_hint="'--shape'")
        shapes[name] = shape
    return shapes or None


def parse_name(name: str | None) -> str | None:
    """Return `name`, a C identifier, or None.

    Raises
    ------
    typer.BadParameter
        It is no C identifier.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise typer.BadParameter(f"{name!r} is no C identifier: letters, digits and _, not starting with a digit.", param_hint="'--name'")
    return name


def opener_of(rpc: str | None, key: str, timeout: float | None, threads: int = 1) -> Callable:
    """Return the function that opens the compiled model in a folder, on a device where an address was given."""
    if rpc is None:
        if key:
            raise typer.BadParameter("it is a device's, whose address --rpc gives.", param_hint="'--key'")
        from bnncc.runtime import load

        return lambda folder: load(folder, threads)
    if threads > 1:
        raise typer.BadParameter("a device runs a call on one thread.", param_hint="'--threads'")
    from bnncc.remote import Device, load_remote

    device = Device(rpc, key) if timeout is None else Device(rpc, key, timeout)
    return lambda folder: load_remote(folder, device)


def refuse_target(target: str | None, board: str | None) -> None:
    """Raise where both a target and a board are given."""
    if target is not None and board is not None:
        raise typer.BadParameter("a --board has its own target; give one or the other.", param_hint="'--target'")


def refuse_device(rpc: str | None, key: str, threads: int) -> None:
    """Raise where options of a library are given for a firmware project, which runs under QEMU on one core."""
    for option, given in (("--rpc", rpc is not None), ("--key", bool(key)), ("--threads", threads > 1)):
        if given:
            raise typer.BadParameter("the folder is a firmware project, which runs under QEMU, on one core.", param_hint=f"'{option}'")


def source_options(
    shape: list[str],
    input_type: list[str],
    input_scale: list[str],
    input_zero: list[str],
    first_layer: Arithmetic,
    last_layer: Arithmetic,
    sign_zero: SignZero,
) -> dict:
    """Return what a command's options say of the model, as keyword arguments of `compile` and of what calls it.

    Raises
    ------
    typer.BadParameter
        One of them is malformed.
    """
    return {
        "shapes": parse_shapes(shape),
        "byte_inputs": parse_byte_inputs(input_type, input_scale, input_zero),
        "fixed_layers": tuple(place for place, chosen in (("first", first_layer), ("last", last_layer)) if chosen is Arithmetic.fixed),
        "sign_zero": sign_zero.value,
    }
