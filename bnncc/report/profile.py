"""Where a compiled network's time goes: each kernel call, beside the least time this machine could take for it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bnncc.errors import LibraryError, TargetError
from bnncc.report.benchmark import duration, processor
from bnncc.report.limits import Limit, Meter, StepWork
from bnncc.report.samples import random_array
from bnncc.runtime import CompiledModel, load
from bnncc.toolchain import is_native

__all__ = ["ProfileReport", "StepTime", "profile"]


@dataclass(frozen=True)
class StepTime:
    """One kernel call.

    Attributes
    ----------
    writes : tuple of str
        ONNX tensors that it makes.
    kernel, note : str
        The kernel and what its schedule chose.
    seconds : float
        Median of one call.
    macs : int
        Multiply-accumulates of its layer, 0 where it has none.
    moved_bytes : int
        Feature maps read and written.
    limit : float or None
        Least seconds on this machine, where that is known.
    limit_reason : str
        What sets it.
    """

    writes: tuple[str, ...]
    kernel: str
    note: str
    seconds: float
    macs: int
    moved_bytes: int
    limit: float | None
    limit_reason: str

    @property
    def share(self) -> float | None:
        """Share of the limit that is reached, 1 at best."""
        return self.limit / self.seconds if self.limit and self.seconds else None


@dataclass(frozen=True)
class ProfileReport:
    """What `profile` measured.

    Attributes
    ----------
    name, target, variant : str
        The compiled model, and the code that it chose on this machine.
    repeat : int
        Calls of the network.
    seconds : float
        Median sum of all steps.
    steps : tuple of StepTime
        In the order of execution.
    machine : str
        The processor.
    threads : int
        That shared each call; limits are those of so many processors.
    arena_bytes, live_bytes : int
        Memory for intermediate tensors, and the largest sum of those alive at once, below which no plan can go.
    """

    name: str
    target: str
    variant: str
    repeat: int
    seconds: float
    steps: tuple[StepTime, ...]
    machine: str
    threads: int
    arena_bytes: int
    live_bytes: int

    def to_json(self) -> dict:
        """Return the report as what JSON can hold; times in seconds."""
        rows = [{**asdict(step), "share": step.share} for step in self.steps]
        return {**asdict(self), "steps": rows}

    def to_text(self, console: Console) -> None:
        """Print the report."""
        console.print(f"{self.name} for {self.target} (code {self.variant}): {duration(self.seconds)} in {len(self.steps)} steps", markup=False)
        table = Table("makes", "time", "of all", "GMAC/s", "of limit", "limit", "kernel", box=None, pad_edge=False)
        for column in table.columns[1:5]:
            column.justify = "right"
        for step in self.steps:
            rate = f"{step.macs / step.seconds * 1e-9:.4g}" if step.macs and step.seconds else ""
            share = "" if step.share is None else f"{step.share:.0%}"
            whole = f"{step.seconds / self.seconds:.1%}" if self.seconds else ""
            table.add_row(", ".join(step.writes), duration(step.seconds), whole, rate, share, step.limit_reason, step.note)
        console.print(table)
        bounded = sum(step.limit for step in self.steps if step.limit)
        known = sum(step.seconds for step in self.steps if step.limit)
        if bounded:
            console.print(f"Steps with a known limit take {duration(known)}, their limits sum up to {duration(bounded)} ({bounded / known:.0%}).")
        over = f"{self.arena_bytes / self.live_bytes:.2f} times " if self.live_bytes else ""
        console.print(f"Arena: {self.arena_bytes:,} bytes, {over}the most that is alive at once ({self.live_bytes:,}).", markup=False)
        threads = f"{self.threads} thread{'s'[: self.threads > 1]}"
        console.print(f"Medians of {self.repeat} calls on {threads}, random inputs; limits measured now; {self.machine}", markup=False)


def profile(
    folder: str | Path, *, threads: int = 1, repeat: int = 30, progress: Callable[[str, int, int], None] | None = None, seed: int = 0
) -> ProfileReport:
    """Measure each kernel call of a compiled model on random inputs.

    Parameters
    ----------
    folder : str or Path
        A compiled model.
    threads : int
        How many share a call.
    repeat : int
        Calls of the network, after a tenth as many to warm up.
    progress : callable, optional
        Called with ``(step, done, total)``.
    seed : int
        Of the random inputs.

    Raises
    ------
    LibraryError
        The compiled model cannot be loaded, or an older bnncc wrote it.
    InputError
        `threads` is no number from 1 on.
    TargetError
        It is for another architecture: an emulator's times say nothing.
    ToolchainError
        There is no C compiler to build the clock with.
    """
    model = load(folder, threads)
    metadata = model.metadata
    if not is_native(metadata["triple"]):
        raise TargetError(
            f"{metadata['name']} was compiled for {metadata['triple']}, which only an emulator runs here, and its times say nothing of that processor. "
            "Profile on such a machine, or compile with --target native."
        )
    variant = next(row for row in metadata["variants"] if row["name"] == model.variant)
    work, kernels = metadata["model"].get("steps"), variant.get("steps")
    if work is None or kernels is None or len(work) != len(kernels) or "step_constants" not in variant:
        raise LibraryError(f"{model.path} says nothing of its steps: another version of bnncc wrote it. Compile the model again.")
    meter = Meter(metadata["triple"])
    times = _measure(model, meter, len(kernels), repeat, progress or (lambda step, done, total: None), np.random.default_rng(seed))
    notes = metadata["model"]["kernel_notes"][model.variant]
    steps, constants = [], variant["step_constants"]
    for kernel, row, constant, seconds in zip(kernels, work, constants, np.median(times, axis=0), strict=True):
        limit = meter.limit(model.variant, notes[kernel], StepWork(row["macs"], row["moved_bytes"], row["written_bytes"], constant, sum(constants)))
        if limit and model.threads > 1:
            limit = Limit(limit.seconds / model.threads, f"{limit.reason} x {model.threads}")
        known = (limit.seconds, limit.reason) if limit else (None, "")
        steps.append(StepTime(tuple(row["writes"]), kernel, notes[kernel], float(seconds), row["macs"], row["moved_bytes"], *known))
    arena = (variant["entries"]["main"][name] for name in ("arena_bytes", "lower_bound_bytes"))
    total = float(np.median(times.sum(axis=1)))
    return ProfileReport(metadata["name"], metadata["target"], model.variant, repeat, total, tuple(steps), processor(), model.threads, *arena)


def _measure(model: CompiledModel, meter: Meter, steps: int, repeat: int, progress: Callable, rng: np.random.Generator) -> np.ndarray:
    """Return the seconds of each step in each call, shape (repeat, steps)."""
    crew = model.start_crew()
    function = getattr(ctypes.CDLL(str(model.path)), f"{model.metadata['name']}_{'threads_' if crew else ''}profile")
    inputs = [np.ascontiguousarray(random_array(spec, rng)) for spec in model.inputs]
    outputs = [np.empty(spec.shape, spec.dtype) for spec in model.outputs]
    alignment = model.metadata["workspace_align"]
    raw = np.empty(model.metadata["workspace_bytes"] + (crew.workspace_bytes if crew else 0) + alignment, np.uint8)
    workspace = raw.ctypes.data + -raw.ctypes.data % alignment
    ns = np.zeros(max(steps, 1), np.uint64)
    pointers = [(ctypes.c_void_p * (len(arrays) + 1))(*(a.ctypes.data for a in arrays)) for arrays in (inputs, outputs)]
    times, warm_up = np.zeros((repeat, steps)), -(-repeat // 10)
    for call in range(-warm_up, repeat):
        code = meter.record(function, *pointers, workspace, ns.ctypes.data_as(ctypes.c_void_p), crew.state if crew else None)
        if code:
            raise LibraryError(f"{model.path} returned {code} when it was profiled. Compile the model again.")
        if call >= 0:
            times[call] = ns[:steps] * 1e-9
            progress("measure", call + 1, repeat)
    return times
