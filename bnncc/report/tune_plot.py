"""The best kernel so far over the trials, a curve a task."""

from __future__ import annotations

from pathlib import Path

from bnncc.errors import OutputError, ToolchainError
from bnncc.report.tune import TuneReport

__all__ = ["check_plot", "plot_history"]


def check_plot(file: Path) -> None:
    """Raise where a plot could not be drawn, before the hours that it is to tell of.

    Raises
    ------
    OutputError
        There is no such folder, or the name does not end as a format that can be drawn.
    ToolchainError
        matplotlib is not installed.
    """
    known = _figure().canvas.get_supported_filetypes()
    if not file.absolute().parent.is_dir():
        raise OutputError(f"The plot cannot be written to {file}: there is no folder {file.parent}. Make it, or name another file with --plot.")
    if file.suffix.lower().removeprefix(".") not in known:
        raise OutputError(f"The plot cannot be written to {file}: no format that can be drawn. Name a file that ends in .svg or .png.")


def plot_history(report: TuneReport, file: Path) -> None:
    """Draw the best ratio to the untuned kernel after each trial of this run.

    Raises
    ------
    OutputError
        The file cannot be written, or its name does not end as a format that can be drawn.
    ToolchainError
        matplotlib is not installed.
    """
    figure = _figure()
    axes = figure.add_subplot()
    for task in report.tasks:
        if task.history:
            axes.step(range(1, len(task.history) + 1), task.history, where="post", label=f"{task.title} ({len(task.layers)}x)")
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_xlabel("trials of this run")
    axes.set_ylabel(f"{report.metric} of the best kernel, untuned = 1")
    axes.set_title(f"{report.target}, {report.machine}")
    axes.legend(fontsize=6)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise OutputError(f"The plot cannot be written to {file}: {error}. Name a file that ends in .svg or .png.") from error


def _figure():
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ToolchainError("The plot needs matplotlib; `pip install bnncc[tune]` installs it.") from error
    return matplotlib.figure.Figure(figsize=(10, 6), layout="constrained")
