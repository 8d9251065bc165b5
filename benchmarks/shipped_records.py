"""Tunes common shapes of layers and writes the records that come with the package (bnncc/tuning/shipped).

    python benchmarks/shipped_records.py --target x86-64-v3 --database FOLDER [--trials 16] [--shapes 64x56 128x28] [--model MODEL.onnx]
    python benchmarks/shipped_records.py --board mps2-an386 --database FOLDER
    python benchmarks/shipped_records.py --check [--prune]

What is measured is kept in FOLDER as any records are, so that an interrupted run goes on; `--trials 0` measures nothing. Each core of the common networks of
which FOLDER knows a best kernel becomes a record, and replaces the one that was there; those of other cores stay. With --model the records of that network are
taken too, where its cores are common ones. --check lists the records that the generators have left
behind, and --prune takes them away.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import common_shapes
import onnx
from rich.console import Console

from bnncc.boards import find_board
from bnncc.compiler import options_for, prepare
from bnncc.errors import TargetError
from bnncc.passes.step_work import step_work
from bnncc.report.tune import tune_model
from bnncc.schedules import build_kernel
from bnncc.schedules.traced import TRACE
from bnncc.targets import Variant, find_target
from bnncc.tuning.best import best_decisions
from bnncc.tuning.core import core_of
from bnncc.tuning.database import Database
from bnncc.tuning.emulated import EmulatedRunner
from bnncc.tuning.record import Record
from bnncc.tuning.shipped import Shipped, shipped_database, shipped_record
from bnncc.tuning.target_key import target_key
from bnncc.tuning.task import Task, extract_tasks, kernel_version, workload_key

__all__ = ["common_networks", "group_of", "tasks_of"]


def common_networks(variant: Variant, shapes: Sequence[str] = ()) -> Iterator[onnx.ModelProto]:
    """Yield the common networks for a processor, or those of the shapes ``64x56`` alone."""
    known = common_shapes.SMALL if variant.is_source else common_shapes.LARGE
    for channels, size in [tuple(map(int, shape.split("x"))) for shape in shapes] or known:
        yield common_shapes.binary_network(channels, size)
    if not shapes:
        yield common_shapes.stem_network(*((32, 32, 3, 1) if variant.is_source else (64, 224, 7, 2)))


def tasks_of(model: onnx.ModelProto | Path, variant: Variant) -> list[Task]:
    """Return the distinct kernels of a network."""
    _, fused, context = prepare(model, options_for(variant))
    return extract_tasks(fused, step_work(fused, context))


def group_of(task: Task):
    """Return the group that a task is about."""
    return next(function for name, function in task.module.functions_items() if name.name_hint != "main")


def _records(tasks: Sequence[Task], variant: Variant, database: Database) -> Iterator[Record]:
    known = [record for record in database.records(target_key(variant)) if TRACE not in record.decisions]  # a trace is of a whole group, not of its core
    for task in tasks:
        group = group_of(task)
        untuned = kernel_version(build_kernel(group, variant).func)
        best = best_decisions([record for record in known if (record.workload, record.untuned) == (task.workload, untuned)])
        if best is not None and kernel_version(build_kernel(group, variant, best[0].decisions, strict=False).func) == best[0].kernel:
            record = shipped_record(group, variant, *best)
            if record is not None:
                yield record


def _write(variant: Variant, records: Sequence[Record]) -> None:
    database, target = shipped_database(), target_key(variant)
    kept = {(record.workload, record.around): record for record in database.records(target)}
    kept |= {(record.workload, record.around): record for record in records}
    database.directory.mkdir(exist_ok=True)
    lines = [record.to_line() for record in sorted(kept.values(), key=lambda r: (r.title, r.around))]
    database.file_of(target).write_text("".join(lines), encoding="utf-8")
    print(f"{target}: {len(records)} records written, {len(lines)} in all, {sum(r.ratio < 1 for r in kept.values())} of them gain")


def _check(prune: bool) -> None:
    keys = {record.target for record in shipped_database().records()}
    for name in ("x86-64-v3", "x86-64-v4", "cortex-a55", "cortex-a76", "cortex-m4", "cortex-m7"):
        variant = find_target(name).variants[-1]
        if target_key(variant) not in keys:
            print(f"{name}: no records")
            continue
        shipped, found, stale = Shipped(variant), {}, set()
        for model in common_networks(variant):
            for task in tasks_of(model, variant):
                core, verdict = core_of(group_of(task)), shipped.verdict(group_of(task))
                if verdict is not None:
                    key = workload_key(core.function)
                    found[key] = verdict
                    if verdict.is_stale:
                        stale.add(key)
                        print(f"{name}: {core.title}: {verdict.reason}")
        print(f"{name}: {len(found)} cores with records, {sum(verdict.is_tuned for verdict in found.values())} tuned, {len(stale)} stale")
        if prune and stale:
            file = shipped_database().file_of(target_key(variant))
            kept = [record.to_line() for record in shipped_database().records(target_key(variant)) if record.workload not in stale]
            file.write_text("".join(kept), encoding="utf-8")


def main() -> None:
    """Tune and write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target")
    parser.add_argument("--board")
    parser.add_argument("--database", type=Path)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--shapes", nargs="*", default=())
    parser.add_argument("--model", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--prune", action="store_true")
    given = parser.parse_args()
    if given.check:
        _check(given.prune)
        return
    variant = find_target(find_board(given.board).target if given.board else given.target).variants[-1]
    emulated = re.match("aarch64", variant.tvm_target["mtriple"])
    runner = (lambda chosen: EmulatedRunner(chosen.variants[-1].tvm_target["mtriple"], chosen.name)) if emulated else None
    database, cores = Database(given.database), set()
    for model in common_networks(variant, given.shapes):
        tasks = tasks_of(model, variant)
        cores |= {workload_key(core.function) for task in tasks if (core := core_of(group_of(task))) is not None}
        if given.trials:
            options = {"board": given.board} if given.board else {"target": given.target}
            try:
                report = tune_model(model, **options, trials=given.trials, database=database, runner=runner)
            except TargetError as error:
                print(error)
                continue
            report.to_text(Console(width=200))
        _write(variant, list(_records(tasks, variant, database)))
    if given.model is not None:
        found = _records(tasks_of(given.model, variant), variant, database)
        _write(variant, [record for record in found if record.workload in cores])


if __name__ == "__main__":
    main()
