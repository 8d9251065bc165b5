"""``bnncc compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnncc.cli import console
from bnncc.cli.byte_inputs import InputScales, InputTypes, InputZeros
from bnncc.cli.options import (
    DEFAULT_TARGET,
    Arithmetic,
    DatabaseFolder,
    FirstLayer,
    FormatOption,
    Json,
    LastLayer,
    Model,
    Name,
    OptimizeFor,
    OptimizeForOption,
    Shapes,
    SignZero,
    SignZeroOption,
    TargetName,
    parse_name,
    source_options,
)
from bnncc.cli.values import whole

__all__ = ["compile_model"]


def compile_model(
    model: Model,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the library, header and metadata.json go.")
    ] = Path("out"),
    target: TargetName = DEFAULT_TARGET,
    shape: Shapes = [],  # noqa: B006  Typer copies it
    input_type: InputTypes = [],  # noqa: B006
    input_scale: InputScales = [],  # noqa: B006
    input_zero: InputZeros = [],  # noqa: B006
    first_layer: FirstLayer = Arithmetic.exact,
    last_layer: LastLayer = Arithmetic.exact,
    name: Name = None,
    sign_zero: SignZeroOption = SignZero.exact,
    optimize_for: OptimizeForOption = OptimizeFor.speed,
    output_format: FormatOption = None,
    threads: Annotated[
        int, typer.Option(parser=whole(1, 64), metavar="N", help="Most threads that may share a call. Only for more than one does the library need pthreads.")
    ] = 1,
    database: DatabaseFolder = None,
    untuned: Annotated[
        bool, typer.Option("--untuned", "--no-records", help="Use no tuning records, neither this user's nor those that come with bnncc.")
    ] = False,
    dump_ir: Annotated[Path, typer.Option(metavar="FOLDER", help="Write the module after each pass here.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Compile a model into a shared library, or into C for a microcontroller, with a C header."""
    source = source_options(shape, input_type, input_scale, input_zero, first_layer, last_layer, sign_zero)
    name = parse_name(name)
    import bnncc.compiler

    with console.progress() as report:
        artifact = bnncc.compiler.compile(
            model,
            target=target,
            **source,
            name=name,
            optimize_for=optimize_for.value,
            output_format=output_format and output_format.value,
            threads=threads,
            database=False if untuned else database or True,
            dump_ir=dump_ir,
            progress=report,
        )
        metadata = artifact.save(output)
    console.warn(artifact.warnings)
    if as_json:
        console.print_json(metadata)
        return
    layers = artifact.report.layers
    print(f"{sum(row.bits for row in layers)} of {len(layers)} layers run on bits; `bnncc inspect {model}` lists them")
    for name in metadata["files"]:
        print(f"{output / name}  {(output / name).stat().st_size:,} bytes")
    if metadata.get("note"):
        print(f"{target}: {metadata['note']}")
