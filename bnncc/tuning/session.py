"""Tuning: candidates of each task are built, checked, measured and recorded, until the trials are used up or the space is."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import tvm

from bnncc import __version__
from bnncc.errors import DeviceError, InternalError
from bnncc.schedules.traced import TRACE, plain_loops
from bnncc.targets import Variant
from bnncc.tuning.best import best_decisions
from bnncc.tuning.candidate import BuildPool, Built
from bnncc.tuning.database import Database
from bnncc.tuning.record import Record
from bnncc.tuning.runner import Job, Measurement, Runner, Sample, write_samples
from bnncc.tuning.search import JointSearch, Search
from bnncc.tuning.space import Point, Space
from bnncc.tuning.target_key import target_key
from bnncc.tuning.task import Task

__all__ = ["Observer", "TaskState", "TuningSession"]

_CONFIRMED = 3
_CONFIRM_CALLS = 2  # times as many calls as a trial has
_CONFIRM_RUNS = 3
"""In processes of their own, as where the memory of one lies is chance; the median counts."""


@dataclass
class TaskState:
    """How far a task is.

    Parameters
    ----------
    task : Task
    space : Space
    trials : int
        Measured or failed, with those of earlier runs.
    untuned_value : float or None
        Of the untuned kernel.
    best_ratio : float
        Of the best kernel so far to the untuned one.
    best_note : str
        What its schedule says.
    history : list of float
        Best ratio after each trial of this run.
    failures : int
    exhausted : bool
        Whether the whole space was tried.
    """

    task: Task
    space: Space
    trials: int = 0
    untuned_value: float | None = None
    best_ratio: float = 1.0
    best_note: str = ""
    history: list[float] = field(default_factory=list)
    failures: int = 0
    exhausted: bool = False

    @property
    def weight(self) -> float:
        """What the task takes of a call of the model, in the metric."""
        return (self.untuned_value or 0.0) * self.best_ratio * self.task.count


Observer = Callable[[Sequence[TaskState], Record | None], None]
"""Called after each trial with all states and the record."""


class TuningSession:
    """Tunes the tasks of one model for one variant.

    Parameters
    ----------
    tasks : sequence of Task
    samples : mapping of str to sequence of Sample
        By workload: what its first occurrence meets in the model, and its outputs.
    variant : Variant
    runner : Runner
    database : Database
    trials : int
        A task, those of earlier runs counted.
    observer : callable, optional
    build_timeout : float
        Seconds that building one candidate may take.
    pool : BuildPool, optional
        What builds candidates; processes of this machine by default.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        samples: Mapping[str, Sequence[Sample]],
        variant: Variant,
        runner: Runner,
        database: Database,
        trials: int,
        observer: Observer | None = None,
        build_timeout: float = 120.0,
        pool: BuildPool | None = None,
    ):
        self.variant, self.runner, self.database, self.trials = variant, runner, database, trials
        self.target = target_key(variant)
        self.observer = observer or (lambda states, record: None)
        self.samples, self.build_timeout, self._pool = samples, build_timeout, pool
        self.states = [TaskState(task, Space(next(f for g, f in task.module.functions_items() if g.name_hint != "main"), variant)) for task in tasks]
        # what leaves nothing open, and is not compared with another layout, is not tuned
        self.states = [state for state in self.states if state.task.is_compared or state.space.untuned().choices or self.loops(state) is not None]
        self._versions = {"bnncc": __version__, "tvm": tvm.__version__, "xgboost": _version("xgboost")}

    def run(self) -> None:
        """Tune every task; what was recorded stays recorded however this ends."""
        workers = max(self.runner.workers, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        pool = self._pool or BuildPool(workers, self.build_timeout)
        try:
            with tempfile.TemporaryDirectory(prefix="bnncc-tune-") as temporary:
                benches = [_Bench(self, state, pool, Path(temporary) / str(i)) for i, state in enumerate(self.states)]
                for bench in benches:
                    bench.start()
                # what takes most of a call first: an interrupted run has then done most
                for bench in sorted(benches, key=lambda bench: -bench.state.weight):
                    bench.run(workers)
        finally:
            pool.close()

    def loops(self, state: TaskState) -> tvm.tirx.PrimFunc | None:
        """Return the plain loops of a task, which MetaSchedule searches; None where there are none, or code is C, which leaves vectors to its compiler."""
        return None if self.variant.is_source else plain_loops(state.space.group)

    def search(self, state: TaskState) -> JointSearch:
        """Return what proposes the kernels of a task: the generator's own space, and MetaSchedule's of a float layer."""
        parts: list = []
        if state.space.untuned().choices:
            parts.append((Search(state.space), lambda point: TRACE not in point.decisions))
        if (loops := self.loops(state)) is not None and _version("xgboost"):
            from bnncc.tuning.traces import TraceSearch  # seconds to import

            parts.append((TraceSearch(state.space, loops, self.variant, self.trials), lambda point: TRACE in point.decisions))
        return JointSearch(parts)

    def record(self, state: TaskState, point: Point, measured: Measurement, stage: str) -> Record:
        """Keep a trial and return its record."""
        record = Record(
            target=self.target,
            workload=state.task.workload,
            kernel=point.kernel,
            untuned=state.space.untuned().kernel,
            decisions=dict(point.decisions),
            status=measured.status,
            metric=self.runner.metric,
            value=measured.value,
            untuned_value=measured.untuned_value,
            machine=self.runner.machine,
            stage=stage,
            title=state.task.title,
            note=point.note,
            message=measured.message[-500:],
            versions=self._versions,
        )
        self.database.append(record)
        return record

    def known(self, state: TaskState) -> list[Record]:
        """Return what earlier runs recorded of a task, of this very kernel, by this metric on this machine."""
        wanted = state.task.workload, state.space.untuned().kernel, self.runner.metric, self.runner.machine
        return [r for r in self.database.records(self.target) if (r.workload, r.untuned, r.metric, r.machine) == wanted]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


class _Bench:
    """One task at work: its files, its search, and what is known of it."""

    def __init__(self, session: TuningSession, state: TaskState, pool: BuildPool, folder: Path):
        self.session, self.state, self.pool, self.folder = session, state, pool, folder
        self.search = session.search(state)
        self.known: list[Record] = []
        folder.mkdir()
        self.module, self.samples, self.untuned = folder / "module.json", folder / "samples.npz", folder / "untuned"

    def start(self) -> None:
        """Write the task's files, build and measure the untuned kernel, and read what earlier runs recorded."""
        session, state = self.session, self.state
        self.module.write_text(tvm.ir.save_json(state.task.module), encoding="utf-8")
        write_samples(self.samples, session.samples[state.task.workload])
        base = state.space.untuned()
        self.search.skip(base.kernel)
        self.known = session.known(state)
        built = self.pool.build(self.module, session.variant, [({}, self.untuned)])[0]
        if built.folder is None:
            raise InternalError(f"the untuned kernel of {state.task.title} cannot be built: {built.message}")
        measured = session.runner.measure(Job(self.untuned, self.untuned, self.samples))
        if measured.status in ("crash", "timeout"):
            raise DeviceError(
                f"The untuned kernel of {state.task.title} was not measured on {session.runner.machine} ({measured.message}). What was measured before "
                "is kept: run the same command again once the machine or board is at rest."
            )
        if measured.status != "ok":
            raise InternalError(f"the untuned kernel of {state.task.title} is {measured.status}: {measured.message}")
        state.untuned_value, state.best_note = measured.value, base.note
        for record in self.known:
            self._learn(record)
        if not any(record.kernel == base.kernel for record in self.known):
            self._keep(base, measured, "search")

    def run(self, workers: int) -> None:
        """Try candidates until the trials are used up, then measure the best ones again."""
        state = self.state
        fresh = 0
        while state.trials < self.session.trials:
            points = self.search.propose(min(2 * workers, self.session.trials - state.trials))
            if not points:
                state.exhausted = True
                break
            fresh += len(points)
            folders = [self.folder / point.kernel for point in points]
            built = self.pool.build(self.module, self.session.variant, [(point.decisions, folder) for point, folder in zip(points, folders, strict=True)])
            for point, measured in zip(points, self._measure(built), strict=True):
                self._keep(point, measured, "search")
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        if fresh or not any(record.stage == "confirm" for record in self.known):
            self._confirm()
        self.session.observer(self.session.states, None)

    def _measure(self, built: Sequence[Built], calls: int = 30) -> Iterator[Measurement]:
        """Yield what came of each, as soon as it is known, so that it can be kept: an interruption loses no more than what is being measured."""
        runner = self.session.runner

        def one(found: Built) -> Measurement:
            if found.folder is None:
                return Measurement(found.status, message=found.message)
            return runner.measure(Job(found.folder, self.untuned, self.samples, calls))

        if runner.workers == 1:  # what is measured has the machine for itself: no record is written meanwhile
            yield from map(one, built)
            return
        threads = ThreadPoolExecutor(runner.workers)
        try:
            yield from threads.map(one, built)
        finally:
            threads.shutdown(cancel_futures=True)

    def _confirm(self) -> None:
        """Measure the best few again, longer: the best of many noisy numbers flatters."""
        best: dict[str, Record] = {}
        for record in sorted((r for r in self.known if r.ratio is not None and r.stage == "search"), key=lambda r: r.ratio):
            best.setdefault(record.kernel, record)
        base = self.state.space.untuned()
        points = [self.state.space.point(record.decisions) for record in list(best.values())[:_CONFIRMED]]
        points = [point for point in points if point is not None and point.kernel != base.kernel and best[point.kernel].ratio < 1]
        folders = [self.folder / f"{point.kernel}-again" for point in points]
        built = self.pool.build(self.module, self.session.variant, [(point.decisions, folder) for point, folder in zip(points, folders, strict=True)])
        for _ in range(_CONFIRM_RUNS if self.session.runner.is_noisy else 1):
            for point, measured in zip(points, self._measure(built, 30 * _CONFIRM_CALLS), strict=True):
                self._keep(point, measured, "confirm")

    def _keep(self, point: Point, measured: Measurement, stage: str) -> None:
        record = self.session.record(self.state, point, measured, stage)
        self.known.append(record)
        self._learn(record)
        self.state.history.append(self.state.best_ratio)
        self.session.observer(self.session.states, record)

    def _learn(self, record: Record) -> None:
        state = self.state
        if record.stage == "search":
            state.trials += 1
            state.failures += record.status != "ok"
            self.search.skip(record.kernel)
            point = state.space.point(record.decisions)
            if point is not None and point.kernel == record.kernel:
                self.search.learn(point, record.ratio)
        best = best_decisions(self.known)
        if best is not None and best[1] < 1:
            state.best_ratio, state.best_note = best[1], best[0].note
        else:
            state.best_ratio, state.best_note = 1.0, state.space.untuned().note
