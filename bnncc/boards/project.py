"""A firmware project: the generated C and, from templates, start-up code, linker script, main and build files; an Arduino library, a Zephyr module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from bnncc.boards.integrations import INTEGRATION_FOLDERS, write_integrations
from bnncc.boards.manifest import Board
from bnncc.boards.vectors import VECTOR_FILES, Vectors, write_vectors
from bnncc.codegen.c_text import template_environment
from bnncc.codegen.output import METADATA_FILE, PROJECT_FORMAT, output_folder
from bnncc.errors import BudgetError
from bnncc.spec import TensorSpec
from bnncc.targets import find_target

__all__ = ["EMULATOR_OPTIONS", "ram_of", "write_project"]

EMULATOR_OPTIONS = ("-nographic", "-monitor", "none", "-serial", "null", "-semihosting-config", "enable=on,target=native")
"""Of QEMU, for a firmware that reaches the host by semihosting."""

_FILES = ("startup.c", "board.h", "main.c", "link.ld", "Makefile", "CMakeLists.txt")
_BUILT = tuple(f"{program}.{ending}" for program in ("firmware", "test") for ending in ("elf", "map", "hex", "bin"))


def ram_of(metadata: Mapping, board: Board) -> dict[str, int]:
    """Return what the firmware takes of the RAM, in bytes: arena, input, output and stack."""
    sizes = {part: sum(_spec(t).nbytes for t in metadata[part]) for part in ("inputs", "outputs")}
    return {"arena": metadata["workspace_bytes"], "input": sizes["inputs"], "output": sizes["outputs"], "stack": board.stack_bytes}


def _spec(tensor: Mapping) -> TensorSpec:
    return TensorSpec(tensor["name"], tuple(tensor["shape"]), tensor["dtype"])


def _check_budget(metadata: Mapping, board: Board) -> None:
    """Raise where the model cannot fit: RAM is known exactly; of the flash, the constants are (code comes on top, the linker checks it)."""
    parts = ram_of(metadata, board)
    over = sum(parts.values()) - board.ram.length
    if over > 0:
        listed = ", ".join(f"{name} {size:,}" for name, size in parts.items())
        raise BudgetError(
            f"{metadata['name']} needs {sum(parts.values()):,} bytes of RAM ({listed}), {over:,} more than the {board.ram.length:,} of {board.name}."
        )
    over = metadata["constants_bytes"] - board.flash.length
    if over > 0:
        raise BudgetError(
            f"The weights and tables of {metadata['name']} are {metadata['constants_bytes']:,} bytes, {over:,} more than the flash of {board.name} "
            f"({board.flash.length:,})."
        )


def write_project(board: Board, compiled: Path, out: Path, vectors: Vectors | None = None) -> dict:
    """Write a firmware project.

    Parameters
    ----------
    board : Board
    compiled : Path
        Folder that `emit_c` wrote for the board's target.
    out : Path
        Folder to write; made if there is none, replaced if it holds an earlier output.
    vectors : Vectors, optional
        For ``make test``, which runs them on the board.

    Returns
    -------
    dict
        The content of the project's metadata.json.

    Raises
    ------
    BudgetError
        The model does not fit the board; nothing is written.
    OutputError
        The folder holds other content or cannot be written.
    """
    metadata = json.loads((compiled / METADATA_FILE).read_text(encoding="utf-8"))
    _check_budget(metadata, board)
    name = metadata["name"]
    arm = not board.target.startswith("riscv")
    environment = template_environment(Path(__file__).parent)
    specs = {part: [_spec(t) for t in metadata[part]] for part in ("inputs", "outputs")}
    context = {
        **{"name": name, "macro": name.upper(), "board": board, "arm": arm, "options": " ".join(find_target(board.target).variants[0].c_options)},
        "prefix": board.tool_prefix,
        **{part: [spec.nbytes for spec in tensors] for part, tensors in specs.items()},
        "kinds": [t["dtype"] for t in metadata["inputs"]],
        "programs": {"firmware": "main.c", **({"test": "test.c"} if vectors else {})},
        "emulator": " ".join([*board.emulator, *EMULATOR_OPTIONS]) if board.emulator else "",
    }
    result = {
        **metadata,
        "format": PROJECT_FORMAT,
        "board": board.name,
        "ram": ram_of(metadata, board),
        "files": [f"{name}.c", f"{name}.h", *_FILES, *(VECTOR_FILES if vectors else ()), *_BUILT, *INTEGRATION_FOLDERS, METADATA_FILE],
    }
    with output_folder(Path(out)) as staging:
        for file in (f"{name}.c", f"{name}.h"):
            shutil.copyfile(compiled / file, staging / file)
        for file in _FILES:
            (staging / file).write_text(environment.get_template(f"{file}.j2").render(context), encoding="utf-8")
        write_integrations(environment, metadata, board.target, staging)
        if vectors is not None:
            result["vectors"] = write_vectors(environment, context, specs, vectors, staging)
        (staging / METADATA_FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result
