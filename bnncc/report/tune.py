"""Tuning a model: what `bnncc tune` does, from the ONNX file to records, and what it says of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import tvm
from rich.console import Console
from rich.table import Table

from bnncc.boards import Board, find_board
from bnncc.compiler import options_for, prepare
from bnncc.ops.interpreter import run_module
from bnncc.passes.assignment import assign, differing_groups, workload_key
from bnncc.passes.context import PassContext
from bnncc.passes.step_work import step_work
from bnncc.report.benchmark import duration, processor
from bnncc.report.samples import random_array
from bnncc.report.tune_progress import TuneProgress, measured_text
from bnncc.report.tuned_network import NetworkTimes, compare_in_network
from bnncc.targets import Target, Variant, find_target
from bnncc.tuning.best import Tuned
from bnncc.tuning.candidate import build_model
from bnncc.tuning.database import Database
from bnncc.tuning.firmware import FirmwareRunner
from bnncc.tuning.local import LocalRunner
from bnncc.tuning.runner import Measurement, Runner, Sample
from bnncc.tuning.serial import SerialRunner
from bnncc.tuning.session import TuningSession
from bnncc.tuning.task import Task, extract_tasks, tensors_between

__all__ = ["TunedTask", "TuneReport", "tune_model"]

_SAMPLES = 2

_NETWORK_ROUNDS = 2
"""The second without the kernels that were slower in the first."""


@dataclass(frozen=True)
class TunedTask:
    """What tuning found for one distinct kernel.

    Attributes
    ----------
    title : str
        Operator and shapes.
    layers : tuple of str
        ONNX tensors that its occurrences write.
    trials, failures : int
        Measured, with those of earlier runs, and how many of them failed.
    exhausted : bool
        Whether the whole space was tried.
    untuned_value : float or None
        Of one call of the untuned kernel, in the metric.
    ratio : float
        Of the kernel that a compilation takes now to the untuned one.
    verdict, note : str
        What a compilation makes of the records, and what the best kernel's schedule says.
    history : tuple of float
        Best ratio after each trial of this run.
    is_alternative : bool
        Whether it is of another layout than that by rule.
    """

    title: str
    layers: tuple[str, ...]
    trials: int
    failures: int
    exhausted: bool
    untuned_value: float | None
    ratio: float
    verdict: str
    note: str
    history: tuple[float, ...]
    is_alternative: bool = False


@dataclass(frozen=True)
class TuneReport:
    """What `tune_model` did for one variant of the target.

    Attributes
    ----------
    target, variant, metric, machine : str
    database : str
        The folder of the records.
    tasks : tuple of TunedTask
        Those that leave a choice, or are compared with others; the others are not tuned.
    assignment : tuple of str
        Layouts that a compilation decides by these times otherwise than by rule.
    network : NetworkTimes, optional
        Of the libraries with these records and without any, measured by turns where something was tuned on this machine.
    """

    target: str
    variant: str
    metric: str
    machine: str
    database: str
    tasks: tuple[TunedTask, ...]
    assignment: tuple[str, ...] = ()
    network: NetworkTimes | None = None

    def to_json(self) -> dict:
        """Return the report as what JSON can hold."""
        return asdict(self)

    def to_text(self, console: Console) -> None:
        """Print the report."""
        table = Table("layer", "runs", "untuned", "ratio", "trials", "failed", "kernel", "what compile does", box=None, pad_edge=False)
        for task in self.tasks:
            untuned = measured_text(task.untuned_value, self.metric)
            trials = f"{task.trials}{' (all)' if task.exhausted else ''}"
            title = f"{task.title} (another layout)" if task.is_alternative else task.title
            table.add_row(title, str(len(task.layers)), untuned, f"{task.ratio:.2f}", trials, str(task.failures), task.note, task.verdict)
        console.print(table)
        own = [task for task in self.tasks if not task.is_alternative]
        before, after = (sum((t.untuned_value or 0) * len(t.layers) * ratio(t) for t in own) for ratio in (lambda t: 1.0, lambda t: t.ratio))
        if before:
            console.print(f"Tuned kernels take {after / before:.3f} of the untuned {self.metric} of these layers; {self.machine}.", markup=False)
        for line in self.assignment:
            console.print(line, markup=False)
        if self.network is not None:
            before, after = (duration(seconds) for seconds in (self.network.untuned, self.network.tuned))
            console.print(f"A call of the whole model took {before} untuned, {after} with the kernels that are not slower in it.", markup=False)
        console.print(f"Records: {self.database}", markup=False)


def tune_model(
    model: str | Path | onnx.ModelProto,
    *,
    target: str = "native",
    board: str | None = None,
    optimize_for: str = "speed",
    serial: Path | None = None,
    trials: int = 64,
    database: Database,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sign_zero: str = "exact",
    runner: Callable[[Target], Runner] | None = None,
    console: Console | None = None,
    log: Path | None = None,
    seed: int = 0,
) -> TuneReport:
    """Search the kernels of a model and record what is measured.

    Parameters
    ----------
    model : path or ModelProto
    target : str
        One instruction set: of a target with several variants the best that the runner's machine runs is tuned.
    board : str, optional
        Of a microcontroller, instead of a target: instructions are counted under QEMU.
    optimize_for : {"speed", "flash", "ram"}
        As of `compile`.
    serial : Path, optional
        The port of a real board, whose cycles are counted then.
    trials : int
        A distinct kernel, those of earlier runs counted.
    database : Database
        Where the records go.
    shapes, sign_zero
        As of `compile`.
    runner : callable, optional
        What measures; this machine by default.
    console : Console, optional
        Where a live table is drawn, if it is a terminal.
    log : Path, optional
        Gets a line of JSON after each trial.
    seed : int
        Of the inputs.

    Raises
    ------
    ModelError, ToolchainError, OutputError
    TargetError
        What measures does not run the target.
    """
    chosen = find_target(target)
    if board is not None:
        described = find_board(board)
        chosen, runner = find_target(described.target).optimized_for(optimize_for), lambda _: _board_runner(described, serial)
    measuring = runner(chosen) if runner is not None else LocalRunner(processor())
    try:
        chosen = measuring.best_part(chosen)
        variant = chosen.variants[-1]
        imported, fused, ctx = prepare(model, options_for(variant, sign_zero), shapes=shapes)
        tasks = extract_tasks(fused, step_work(fused, ctx))
        rng = np.random.default_rng(seed)
        inputs = [[random_array(spec, rng) for spec in imported.inputs] for _ in range(_SAMPLES)]
        inputs[-1] = [np.rint(array).astype(array.dtype) for array in inputs[-1]]  # zeros among them, where a Sign has its second plane
        samples = _samples(fused, tasks, variant, inputs, measuring)
        tasks, others, separate = _with_other_layouts(tasks, ctx)
        if others:
            samples |= _samples(separate, others, variant, inputs, measuring)
            tasks += others
        if isinstance(measuring, FirmwareRunner | SerialRunner):
            samples = _on_board(measuring, tasks, variant, samples)
        with TuneProgress(trials, measuring.metric, variant, console or Console(quiet=True), log) as observer:
            session = TuningSession(tasks, samples, variant, measuring, database, trials, observer)
            session.run()
    finally:
        measuring.close()
    network = None
    if isinstance(measuring, LocalRunner):
        several = len(find_target(target).variants) > 1  # a library of several instruction sets has the layouts by rule

        def workloads(tuned: Tuned) -> set[str]:
            there = fused if several else assign(ctx.fuse, tuned.measured)[0]
            return {task.workload for task in extract_tasks(there, step_work(there, ctx))}

        def compare() -> NetworkTimes:
            if console is not None:
                console.print("Measuring the network with what was tuned, and without ...")
            return compare_in_network(model, target, database.directory, shapes=shapes, sign_zero=sign_zero)

        network = _check_in_network(session, workloads, compare)
    tuned = Tuned(database.records(session.target), variant)
    assignment = assign(ctx.fuse, tuned.measured)[1]
    rows = []
    for state in session.states:
        verdict = tuned.verdict(state.space.group)
        ratio = state.best_ratio if verdict.is_tuned else 1.0
        rows.append(
            TunedTask(
                state.task.title, state.task.layers, state.trials, state.failures, state.exhausted, state.untuned_value, ratio, verdict.reason,
                state.best_note, tuple(state.history), state.task.is_alternative,
            )  # fmt: skip
        )
    return TuneReport(chosen.name, variant.name, measuring.metric, measuring.machine, str(database.directory), tuple(rows), assignment, network)


def _check_in_network(session: TuningSession, workloads: Callable, compare: Callable) -> NetworkTimes | None:
    """Measure the network until no kernel is left out any more that is slower in it, twice at most; return the last times, None where nothing was tuned.

    Parameters
    ----------
    workloads : callable
        ``workloads(tuned)``: those of the kernels that a compilation with these records has.
    compare : callable
        ``compare()``: the `NetworkTimes` with the records and without.
    """
    network, before = None, None
    for _ in range(_NETWORK_ROUNDS):
        tuned = Tuned(session.database.records(session.target), session.variant)
        there = workloads(tuned)
        taken = [state for state in session.states if state.task.workload in there and tuned.verdict(state.space.group).is_tuned]
        if not taken or taken == before:
            break
        network, before = compare(), taken
        for state in taken:
            steps = [step for step in network.steps if set(step.writes) & set(state.task.layers)]
            point = state.space.point(tuned.verdict(state.space.group).decisions)
            if steps and point is not None:
                # one occurrence with another
                values = (sum(getattr(step, which) for step in steps) / len(steps) for which in ("tuned", "untuned"))
                session.record(state, point, Measurement("ok", *values), "network")
    return network


def _board_runner(board: Board, serial: Path | None) -> FirmwareRunner | SerialRunner:
    return FirmwareRunner(board) if serial is None else SerialRunner(board, serial)


def _with_other_layouts(tasks: list[Task], ctx: PassContext) -> tuple[list[Task], list[Task], tvm.IRModule]:
    """Return the tasks, those marked that another layout of the model has no use for; the tasks of what it has instead; and the model in that layout."""
    joined, places = ctx.fuse(frozenset())
    separate, _ = ctx.fuse(frozenset(places))
    gone, new = ({workload_key(group) for group in side} for side in differing_groups(joined, separate))
    found = {task.workload: task for task in extract_tasks(separate, step_work(separate, ctx))}
    # what both layouts have, but one more often, is a task already
    known = {task.workload for task in tasks}
    marked = [replace(task, is_compared=task.workload in gone | new) for task in tasks]
    return marked, [replace(found[key], is_compared=True, is_alternative=True) for key in found if key in new - known], separate


def _on_board(runner: FirmwareRunner | SerialRunner, tasks: list[Task], variant: Variant, samples: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Return samples whose outputs are those of the untuned firmware: its float sums are rounded in another order than NumPy's."""
    found = {}
    for task in tasks:
        with tempfile.TemporaryDirectory(prefix="bnncc-tune-") as temporary:
            build_model(task.module, variant, {}, Path(temporary) / "untuned")
            found[task.workload] = runner.outputs(Path(temporary) / "untuned", samples[task.workload])
    return found


def _samples(fused, tasks: list[Task], variant: Variant, inputs: list, runner: Runner) -> dict[str, list[Sample]]:
    """Return what each task meets in the model, and the outputs of its untuned kernel: one run of the untuned model gives both."""
    wanted = list(dict.fromkeys(name for task in tasks for name in (*task.reads, *task.writes)))
    params = [v.name for v in fused["main"].params]
    inner = [name for name in wanted if name not in params]
    between = tensors_between(fused, inner)
    found: dict[str, list[Sample]] = {task.workload: [] for task in tasks}
    with tempfile.TemporaryDirectory(prefix="bnncc-tune-") as temporary:
        if variant.is_source:
            run = lambda arrays: run_module(between, *arrays)  # noqa: E731
        else:
            build_model(between, variant, {}, Path(temporary) / "untuned")
            model = runner.load(Path(temporary) / "untuned")
            run = lambda arrays: model.run_entry("main", *arrays)  # noqa: E731
        for arrays in inputs:
            known = dict(zip(params, arrays, strict=True)) | dict(zip(inner, run(arrays), strict=True))
            for task in tasks:
                found[task.workload].append(Sample(tuple(known[name] for name in task.reads), tuple(known[name] for name in task.writes)))
    return found
