"""What is seen of tuning while it runs: a live table on stderr, and a log of JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bnncc.errors import OutputError, ToolchainError
from bnncc.report.benchmark import duration
from bnncc.report.limits import Meter
from bnncc.targets import Variant
from bnncc.tuning.record import Record
from bnncc.tuning.session import TaskState

__all__ = ["TuneProgress", "measured_text"]


def measured_text(value: float | None, metric: str) -> str:
    """Return a measured value for readers: a time with its unit, or a count; empty where nothing was measured."""
    if value is None:
        return ""
    return duration(value) if metric.endswith("seconds") else f"{value:,.0f}"


class TuneProgress:
    """An observer of a tuning session; a context manager.

    Parameters
    ----------
    trials : int
        A task.
    metric : str
    variant : Variant
        For the limits of this machine.
    console : Console
        Draws the table, where it is a terminal.
    log : Path, optional
        Gets a line of JSON a trial.

    Raises
    ------
    OutputError
        The log cannot be written.
    """

    def __init__(self, trials: int, metric: str, variant: Variant, console: Console, log: Path | None = None):
        self.trials, self.metric, self.variant = trials, metric, variant
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._started, self._first = time.monotonic(), 0
        self._meter: Meter | None = None
        self._log: TextIO | None = None
        if log is not None:
            try:
                self._log = open(log, "a", encoding="utf-8")
            except OSError as error:
                raise OutputError(f"The log {log} cannot be written: {error.strerror or error}. Name another file with --log.") from error

    def __enter__(self) -> TuneProgress:
        if self._live is not None:
            self._live.__enter__()
            if self.metric == "seconds":
                try:
                    self._meter = Meter(self.variant.tvm_target["mtriple"])
                except ToolchainError:
                    pass  # the column stays empty
        return self

    def __exit__(self, *error) -> None:
        if self._live is not None:
            self._live.__exit__(*error)
        if self._log is not None:
            self._log.close()

    def __call__(self, states: Sequence[TaskState], record: Record | None) -> None:
        """Show and log a trial."""
        if record is not None and self._log is not None:
            self._log.write(json.dumps(self._entry(states, record)) + "\n")
            self._log.flush()
        if self._live is not None:
            self._live.update(self.table(states), refresh=True)

    def _entry(self, states: Sequence[TaskState], record: Record) -> dict:
        state = next(state for state in states if state.task.workload == record.workload)
        return {
            "seconds": round(time.monotonic() - self._started, 3),
            "task": record.title,
            "workload": record.workload,
            "stage": record.stage,
            "trial": state.trials,
            "status": record.status,
            "ratio": record.ratio,
            "best": state.best_ratio,
            "decisions": dict(record.decisions),
            "message": record.message,
        }

    def seconds_left(self, states: Sequence[TaskState]) -> float | None:
        """Return what the trials left take if they take as long as those of this run; None before the first."""
        done = sum(len(state.history) for state in states)
        left = sum(max(0, self.trials - state.trials) for state in states if not state.exhausted)
        return (time.monotonic() - self._started) / done * left if done else None

    def share(self, state: TaskState) -> float | None:
        """Return the share of this machine's limit that the best kernel reaches; None where it is not known."""
        if self._meter is None or not state.untuned_value:
            return None
        limit = self._meter.limit(self.variant.name, state.best_note, state.task.macs, state.task.moved_bytes)
        return limit.seconds / (state.untuned_value * state.best_ratio) if limit else None

    def table(self, states: Sequence[TaskState]) -> Table:
        """Return the table of all tasks."""
        left = self.seconds_left(states)
        title = "" if left is None else f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"
        table = Table("task", "runs", "untuned", "best", "of limit", "trials", "failed", title=title, box=None, pad_edge=False)
        for state in states:
            untuned = measured_text(state.untuned_value, self.metric)
            share = self.share(state)
            table.add_row(
                state.task.title, str(state.task.count), untuned, f"{state.best_ratio:.2f}", "" if share is None else f"{share:.0%}",
                f"{state.trials}{' (all)' if state.exhausted else f'/{self.trials}'}", str(state.failures),
            )  # fmt: skip
        return table
