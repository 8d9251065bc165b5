"""A model on a board: what its firmware takes of the memory, what a run costs, and whether it computes what this machine's library does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from bnncc.boards import Board, FirmwareMemory, find_board, measure_memory, require_tools, run_project, tolerance_of, write_project
from bnncc.compiler import compile
from bnncc.errors import BudgetError
from bnncc.report.firmware import FirmwareCounts, count_firmware
from bnncc.report.samples import given_or_random
from bnncc.report.vectors import make_vectors
from bnncc.runtime import load
from bnncc.targets import OPTIMIZE_FOR

__all__ = ["BoardReport", "FirmwareComparison", "check_budget", "inspect_board", "verify_firmware", "write_firmware"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BoardReport:
    """What a firmware takes of a board.

    Parameters
    ----------
    memory : FirmwareMemory
    counts : FirmwareCounts, optional
        Where QEMU has the board.
    """

    memory: FirmwareMemory
    counts: FirmwareCounts | None

    def to_json(self) -> dict:
        """Return everything as what JSON can hold."""
        return {**self.memory.to_json(), "counts": self.counts and self.counts.to_json()}

    def to_text(self, console: Console) -> None:
        """Print the report for readers."""
        board = self.memory.board
        table = Table("memory", "bytes", "of", "what takes it", box=None, pad_edge=False)
        for name, parts, region in (("flash", self.memory.flash, board.flash), ("RAM", self.memory.ram, board.ram)):
            listed = ", ".join(f"{part} {size:,}" for part, size in parts.items())
            table.add_row(name, f"{sum(parts.values()):,}", f"{region.length:,}", listed)
        console.print(table)
        console.print(f"The stack is a bound from the compiler's frames and the call graph; {board.name} reserves {board.stack_bytes:,} bytes.", soft_wrap=True)
        if self.counts is not None:
            self.counts.to_text(console)


def check_budget(memory: FirmwareMemory) -> None:
    """Raise where a firmware takes more than its board has.

    Raises
    ------
    BudgetError
        The message says of what, and by how much.
    """
    over = [f"{needed:,} bytes of {name}, {needed - there:,} more than the {there:,} there are" for name, needed, there in memory.over()]
    if over:
        raise BudgetError(f"The firmware for {memory.board.name} needs {' and '.join(over)}.")


def write_firmware(
    model: str | Path | onnx.ModelProto,
    board: Board,
    out: Path,
    *,
    optimize_for: str = "speed",
    vectors: int = 0,
    inputs: np.ndarray | Mapping[str, np.ndarray] | None = None,
    **options,
) -> tuple[dict, list[str]]:
    """Compile a model into a firmware project that fits its board.

    Parameters
    ----------
    out : Path
        Folder to write; nothing is written where the firmware does not fit.
    vectors : int
        How many test vectors the project gets at most.
    inputs : ndarray or mapping of str to ndarray, optional
        What they are made of; random numbers without.
    options
        As of `bnncc.compiler.compile`.

    Returns
    -------
    metadata : dict
        The project's; ``vectors_note`` says what the test vectors are.
    warnings : list of str

    Raises
    ------
    BudgetError
        It takes more flash or RAM than there is; the message names the options that would fit.
    ToolchainError
        What it is built with is not installed; said before anything is compiled.
    """
    require_tools(board, runs=False)
    try:
        return _write(model, board, out, optimize_for, options, vectors, inputs)
    except BudgetError as error:
        fits = [other for other in OPTIMIZE_FOR if other != optimize_for and _fits(model, board, other, options)]
        found = " or ".join(f"`--optimize-for {other}`" for other in fits)
        advice = f"It fits with {found}." if fits else "None of --optimize-for speed, flash and ram fits: choose a larger board, or a smaller model or input."
        raise BudgetError(f"{error} {advice} Nothing was written.") from error


def _write(model, board: Board, out: Path, optimize_for: str, options: Mapping, count: int = 0, inputs=None) -> tuple[dict, list[str]]:
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        artifact = compile(model, target=board.target, optimize_for=optimize_for, **options)
        artifact.save(Path(folder) / "c")
        write_project(board, Path(folder) / "c", Path(folder) / "project")
        memory = measure_memory(Path(folder) / "project")
        check_budget(memory)
        vectors, note = make_vectors(model, inputs, count, board.flash.length - sum(memory.flash.values()), options) if count else (None, "")
        return {**write_project(board, Path(folder) / "c", out, vectors), "vectors_note": note}, artifact.warnings


def _fits(model, board: Board, optimize_for: str, options: Mapping) -> bool:
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        try:
            _write(model, board, Path(folder) / "project", optimize_for, options)
        except BudgetError:
            return False
        return True


def inspect_board(model: str | Path | onnx.ModelProto, board: str, **options) -> BoardReport:
    """Tell what a model's firmware takes of a board; options and errors as of `write_firmware`."""
    chosen = find_board(board)
    require_tools(chosen, runs=bool(chosen.emulator))
    with tempfile.TemporaryDirectory(prefix="bnncc-") as folder:
        project = Path(folder) / "project"
        write_firmware(model, chosen, project, **options)
        return BoardReport(measure_memory(project), count_firmware(project) if chosen.emulator else None)


@dataclass(frozen=True)
class FirmwareComparison:
    """An output of the firmware beside that of this machine's library.

    Parameters
    ----------
    output, board : str
    samples, elements, different : int
    largest : float
        Largest difference.
    tolerance : float
        What float operators of two C libraries may differ by: a millionth of the largest magnitude; 0 for integers.
    """

    output: str
    board: str
    samples: int
    elements: int
    different: int
    largest: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether nothing differs by more than the tolerance."""
        return self.largest <= self.tolerance

    def to_json(self) -> dict:
        """Return everything as what JSON can hold."""
        return {**asdict(self), "ok": self.ok}

    def __str__(self) -> str:
        what = f"{self.board}, {self.samples} samples, output {self.output}: "
        if not self.different:
            return f"{what}all {self.elements:,} elements equal the library's of this machine bit for bit"
        beside = f"within the {self.tolerance:.3g}" if self.ok else f"more than the {self.tolerance:.3g}"
        return (
            f"{what}{self.different:,} of {self.elements:,} elements differ from the library's of this machine, by {self.largest:.3g} at most, "
            f"{beside} that the order of float operations may make"
        )


def verify_firmware(
    model: str | Path | onnx.ModelProto,
    board: str,
    inputs: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    limit: int | None = None,
    timeout: float = 300.0,
    **options,
) -> list[FirmwareComparison]:
    """Run a model's firmware under QEMU and this machine's library on the same samples, and compare the outputs; options as of `write_firmware`.

    Without inputs the samples are those that `verify` draws. The emulator is stopped after `timeout` seconds.
    """
    chosen = find_board(board)
    require_tools(chosen, runs=True)
    with tempfile.TemporaryDirectory(prefix="bnncc-verify-") as folder:
        project, library = Path(folder) / "project", Path(folder) / "library"
        write_firmware(model, chosen, project, **options)
        artifact = compile(model, target="native", **{name: value for name, value in options.items() if name != "optimize_for"})
        artifact.save(library)
        samples = given_or_random(inputs, artifact.model.inputs, limit)
        made, native = run_project(project, samples, timeout), load(library)
        names = [spec.name for spec in artifact.model.outputs]
        wanted = [result if isinstance(result, dict) else {names[0]: result} for result in map(native, samples)]
    return [_compare(name, chosen.name, [one[name] for one in made], [one[name] for one in wanted]) for name in names]


def _compare(name: str, board: str, found: list[np.ndarray], wanted: list[np.ndarray]) -> FirmwareComparison:
    ours, theirs = np.stack(found), np.stack(wanted)
    differs = ours.view(f"u{ours.itemsize}") != theirs.view(f"u{theirs.itemsize}") if ours.dtype.kind == "f" else ours != theirs
    apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))[differs]
    return FirmwareComparison(name, board, len(found), ours.size, int(differs.sum()), float(np.max(apart, initial=0)), tolerance_of(theirs))
