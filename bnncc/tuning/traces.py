"""MetaSchedule's search of what is float: its rules on plain loops, its evolution, its cost model; builders, runners, checks and records are ours.

The design space is `PostOrderApply`'s: inlining, tiles of several levels, where blocks are computed, vectors and unrolling. Left out are the rules that change
the order of a sum (`AddRFactor`), as a candidate has to give the untuned kernel's bytes, and those for several threads, as these are shared out afterwards
(`bnncc.schedules.traced.finished`). Tiles that cut two reduction axes change the order, too: these candidates are never measured, and the cost model is
told that they failed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from bnncc.schedules.traced import TRACE, keeps_order
from bnncc.targets import Variant
from bnncc.tuning.space import Point, Space

__all__ = ["TraceSearch", "trace_text"]

_BATCH = 16
_BARREN = 12
"""So many batches without a new kernel end the search."""
_SCALE = 1e-3
"""Seconds that stand for the untuned kernel: the cost model compares within a task only."""


class TraceSearch:
    """Proposes schedules of plain loops, as `bnncc.tuning.search.Search` proposes the points of a generator's space.

    Parameters
    ----------
    space : Space
        Makes points of traces.
    loops : PrimFunc
        See `bnncc.schedules.traced.plain_loops`.
    variant : Variant
    trials : int
        That will be asked for at most.
    seed : int
    """

    def __init__(self, space: Space, loops: tirx.PrimFunc, variant: Variant, trials: int, seed: int = 1):
        self.space = space
        self._module = tvm.IRModule({"main": loops})
        self._seen: set[str] = set()
        self._ready: list[Point] = []
        self._awaited: set[str] = set()
        self._batch: list[tuple[ms.MeasureCandidate, str]] = []
        self._scores: dict[str, float | None] = {}
        self._earlier: list[Point] = []
        self._is_started = False
        target = tvm.target.Target({**variant.tvm_target, "num-cores": 1})
        self._target = target
        with _without_intrinsics():
            self._context = ms.TuneContext(
                self._module,
                target=target,
                space_generator=ms.space_generator.PostOrderApply(sch_rules=_rules(variant), postprocs=_postprocs(), mutator_probs=_mutators()),
                search_strategy=ms.search_strategy.EvolutionarySearch(population_size=64, genetic_num_iters=3, init_min_unmeasured=24),
                num_threads=1,
                rand_state=seed,
            )
        # without XGBoost, which is an extra, chance is the model
        known = importlib.util.find_spec("xgboost") is not None
        self._model = ms.cost_model.XGBModel(num_tuning_cores=1, num_warmup_samples=_BATCH) if known else ms.cost_model.RandomModel()
        self._database = ms.database.MemoryDatabase()
        self._workload = self._database.commit_workload(self._module)
        # candidates that do not keep the order count there, too
        self._most = 64 * max(trials, _BATCH)

    def skip(self, kernel: str) -> None:
        """Never propose a kernel: it was measured before."""
        self._seen.add(kernel)

    def propose(self, count: int) -> list[Point]:
        """Return the next points, at most `count`; none where the search has ended, or a batch is proposed whole and not learnt yet."""
        if not self._is_started:
            self._start()
        barren = 0
        while not self._ready and not self._awaited and barren < _BARREN:
            self._tell()
            candidates = self._context.search_strategy.generate_measure_candidates()
            if not candidates:
                break
            self._take(candidates)
            barren += 1
        found, self._ready = self._ready[:count], self._ready[count:]
        self._awaited |= {point.kernel for point in found}
        return found

    def learn(self, point: Point, ratio: float | None) -> None:
        """Take note of what was measured: the time over the untuned one; None where the kernel failed."""
        self._scores[point.kernel] = ratio
        self._awaited.discard(point.kernel)
        if not self._is_started:
            self._earlier.append(point)

    def _start(self) -> None:
        self._is_started = True
        spaces = self._context.generate_design_space()
        self._context.search_strategy.pre_tuning(self._most, _BATCH, spaces, self._database, self._model)
        known = []
        for point in self._earlier:  # of an earlier run
            schedule = Schedule(self._module)
            Trace.apply_json_to_schedule(json.loads(str(point.decisions[TRACE])), schedule)
            known.append((ms.MeasureCandidate(schedule, ms.arg_info.ArgInfo.from_prim_func(self._module["main"])), point.kernel))
        self._teach(known)

    def _take(self, candidates) -> None:
        for candidate in candidates:
            kernel = ""
            if keeps_order(candidate.sch.mod["main"]):
                point = self.space.point({TRACE: trace_text(candidate.sch.trace)})
                if point is not None:
                    kernel = point.kernel
                    if kernel not in self._seen:
                        self._seen.add(kernel)
                        self._ready.append(point)
            self._batch.append((candidate, kernel))

    def _tell(self) -> None:
        """Tell the strategy and the model what came of the last batch."""
        if self._batch:
            results = self._teach(self._batch)
            self._context.search_strategy.notify_runner_results([candidate for candidate, _ in self._batch], results)
            self._batch = []

    def _teach(self, batch) -> list:
        results = [self._result(self._scores.get(kernel)) for _, kernel in batch]
        for (candidate, _), result in zip(batch, results, strict=True):
            if result.run_secs is not None:
                self._database.commit_tuning_record(
                    ms.database.TuningRecord(candidate.sch.trace, self._workload, result.run_secs, self._target, candidate.args_info)
                )
        if batch:
            self._model.update(self._context, [candidate for candidate, _ in batch], results)
        return results

    @staticmethod
    def _result(ratio: float | None):
        return ms.runner.RunnerResult(None, "not measured") if ratio is None else ms.runner.RunnerResult([ratio * _SCALE], None)


@contextmanager
def _without_intrinsics() -> Iterator[None]:
    """Keep a context from importing TVM's tensor intrinsics, GPUs' for the most part: no rule here names one, and parsing them takes a minute."""
    name = "tvm.s_tir.tensor_intrin"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


def _rules(variant: Variant) -> list:
    rule = ms.schedule_rule
    return [
        rule.InlineConstantScalars(),
        rule.AutoInline(
            into_producer=False, into_consumer=True, inline_const_tensor=True, disallow_if_then_else=True, require_injective=True, require_ordered=True,
            disallow_op=["tirx.exp"],
        ),
        rule.MultiLevelTiling(structure="SSRSRS", max_innermost_factor=64, reuse_write=rule.ReuseType(req="may", levels=[1, 2], scope="global")),
        rule.ParallelizeVectorizeUnroll(
            max_jobs_per_core=-1, max_vectorize_extent=4 * variant.lanes(32), unroll_max_steps=[0, 16, 64, 512], unroll_explicit=True
        ),
        rule.RandomComputeLocation(),
    ]  # fmt: skip


def _postprocs() -> list:
    return [ms.postproc.DisallowDynamicLoop(), ms.postproc.RewriteParallelVectorizeUnroll(), ms.postproc.RewriteReductionBlock()]


def _mutators() -> dict:
    return {ms.mutator.MutateTileSize(): 0.9, ms.mutator.MutateUnroll(): 0.05, ms.mutator.MutateComputeLocation(): 0.05}


def trace_text(trace: Trace) -> str:
    """Return a trace as the text that records keep."""
    return json.dumps(_plain(trace.simplified(remove_postproc=False).as_json()), separators=(",", ":"))


def _plain(value):
    """Return lists, numbers and texts for what TVM's JSON is made of."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tvm_ffi.Array | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, tirx.IntImm | tirx.FloatImm):
        return value.value
    return value
