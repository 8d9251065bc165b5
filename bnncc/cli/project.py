"""``bnncc project``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnncc.cli import console
from bnncc.cli.byte_inputs import InputScales, InputTypes, InputZeros
from bnncc.cli.options import (
    Arithmetic,
    FirstLayer,
    Json,
    LastLayer,
    Model,
    Name,
    OptimizeFor,
    OptimizeForOption,
    Shapes,
    SignZero,
    SignZeroOption,
    parse_name,
    source_options,
)
from bnncc.cli.values import whole

__all__ = ["project"]


def project(
    model: Model,
    board: Annotated[str, typer.Option("--board", help="Board to write firmware for; `bnncc targets` lists them.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the project goes.")] = Path("proj"),
    shape: Shapes = [],  # noqa: B006  Typer copies it
    input_type: InputTypes = [],  # noqa: B006
    input_scale: InputScales = [],  # noqa: B006
    input_zero: InputZeros = [],  # noqa: B006
    first_layer: FirstLayer = Arithmetic.exact,
    last_layer: LastLayer = Arithmetic.exact,
    name: Name = None,
    sign_zero: SignZeroOption = SignZero.exact,
    optimize_for: OptimizeForOption = OptimizeFor.speed,
    inputs: Annotated[
        list[str],
        typer.Option("--input", metavar="[NAME=]X.npy", help="Samples for the test vectors; random ones without.", show_default=False),
    ] = [],  # noqa: B006
    vectors: Annotated[
        int, typer.Option("--vectors", parser=whole(0), metavar="N", help="How many test vectors the firmware of `make test` holds at most.")
    ] = 8,
    as_json: Json = False,
) -> None:
    """Compile a model into a firmware project for a microcontroller board."""
    source = source_options(shape, input_type, input_scale, input_zero, first_layer, last_layer, sign_zero)
    name = parse_name(name)
    from bnncc.boards import find_board

    chosen = find_board(board)
    from bnncc.cli.arrays import read_inputs
    from bnncc.report.board import write_firmware

    samples = read_inputs(inputs) if inputs else None

    with console.progress() as report:
        options = {**source, "name": name, "progress": report}
        metadata, warnings = write_firmware(model, chosen, output, optimize_for=optimize_for.value, vectors=vectors, inputs=samples, **options)
    console.warn(warnings)
    if as_json:
        console.print_json(metadata)
        return
    ram = ", ".join(f"{part} {size:,}" for part, size in metadata["ram"].items())
    print(f"{output}: firmware for {chosen.name} ({chosen.description})")
    print(f"RAM {sum(metadata['ram'].values()):,} of {chosen.ram.length:,} bytes: {ram}; constants in flash {metadata['constants_bytes']:,} bytes")
    where = f"`bnncc run {output} --input X.npy --output Y.npy` runs it in QEMU" if chosen.emulator else "`make` builds it; not run here"
    print(where)
    if vectors:
        does = "runs them in QEMU" if chosen.emulator else "builds test.elf, which says PASS or FAIL on the serial port"
        print(metadata["vectors_note"] + (f" `make -C {output} test` {does}." if "vectors" in metadata else ""))
