from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import tvm
from group_runner import group
from test_space import binary_layer
from tuner import session
from tvm import s_tir
from tvm.script import relax as R

from bnncc.errors import DeviceError
from bnncc.schedules import build_kernel
from bnncc.schedules.traced import TRACE, plain_loops
from bnncc.targets.x86 import native_variant
from bnncc.tuning.best import Tuned, best_decisions
from bnncc.tuning.candidate import Built
from bnncc.tuning.database import Database
from bnncc.tuning.record import Record, read_record
from bnncc.tuning.runner import Measurement
from bnncc.tuning.target_key import target_key
from bnncc.tuning.task import kernel_version, workload_key
from bnncc.tuning.traces import trace_text

TUNER = [sys.executable, str(Path(__file__).with_name("tuner.py"))]


class Pretended:
    """A runner that builds nothing up: what it says of a kernel depends on its decisions alone."""

    metric, machine, workers, is_noisy = "seconds", "pretended", 1, True

    def __init__(self, answer):
        self.answer, self.measured = answer, []

    def measure(self, job):
        name = Path(job.candidate).name
        self.measured.append(name)
        return self.answer(name, job)

    def close(self):
        pass


class NoBuilds:
    """Builds nothing: a pretended runner does not look."""

    def build(self, module, variant, candidates):
        return [Built(folder) for _, folder in candidates]

    def close(self):
        pass


def pretended(folder, trials: int, runner: Pretended):
    return session(folder, trials, runner, pool=NoBuilds())


def ok(ratio: float) -> Measurement:
    return Measurement("ok", ratio, 1.0)


def test_tuning_measures_real_kernels_and_compile_takes_the_best(tmp_path):
    tuned = session(tmp_path, 4)
    tuned.run()
    records = Database(tmp_path).records(tuned.target)
    assert len([r for r in records if r.stage == "search"]) == 4 and all(r.status == "ok" and r.value > 0 for r in records)
    assert records[0].decisions["formulation"] and records[0].kernel == records[0].untuned and records[0].ratio == 1


def test_a_second_run_goes_on_where_the_first_ended(tmp_path):
    runner = Pretended(lambda name, job: ok(0.9))
    pretended(tmp_path, 3, runner).run()
    first = len(runner.measured)
    pretended(tmp_path, 6, runner).run()
    kernels = [r.kernel for r in Database(tmp_path).records() if r.stage == "search"]
    assert len(kernels) == len(set(kernels)) == 6 and len(runner.measured) > first
    before = len(Database(tmp_path).records())
    pretended(tmp_path, 6, runner).run()
    assert len(Database(tmp_path).records()) == before, "nothing is left to do"


@pytest.mark.parametrize("status", ["wrong", "crash", "timeout"])
def test_a_candidate_that_fails_is_recorded_and_never_wins(tmp_path, status):
    runner = Pretended(lambda name, job: ok(1.0) if name == "untuned" else Measurement(status, 0.01, 1.0, "why"))
    tuned = pretended(tmp_path, 4, runner)
    tuned.run()
    records = Database(tmp_path).records()
    assert [r.status for r in records] == ["ok", *[status] * 3] and records[1].message == "why"
    assert best_decisions(records)[0].kernel == records[0].untuned
    assert Tuned(records, native_variant()).verdict(binary_layer()).decisions == {}


def test_an_interrupted_run_keeps_what_is_measured(tmp_path):
    def interrupt(name, job):
        if len(runner.measured) == 3:
            raise KeyboardInterrupt
        return ok(0.9)

    runner = Pretended(interrupt)
    with pytest.raises(KeyboardInterrupt):
        pretended(tmp_path, 20, runner).run()
    assert len(Database(tmp_path).records()) == 2, "the untuned kernel and the one candidate that was measured before"


def test_what_other_devices_measured_is_kept_when_the_last_one_is_lost(tmp_path):
    class Listing(NoBuilds):
        def build(self, module, variant, candidates):
            names.extend(folder.name for _, folder in candidates)
            return super().build(module, variant, candidates)

    def lose(name, job):
        if len(names) > 3 and name == names[3]:
            raise DeviceError("no device answers")
        return ok(0.9)

    names, runner = [], Pretended(lose)
    runner.workers = 3
    with pytest.raises(DeviceError):
        session(tmp_path, 20, runner, pool=Listing()).run()
    assert len(Database(tmp_path).records()) == 3, "the untuned kernel and the two candidates before"


def test_an_untuned_kernel_that_cannot_be_measured_ends_the_run_and_says_what_to_do(tmp_path):
    with pytest.raises(DeviceError, match="was not measured on pretended .it took an hour.*run the same command again"):
        pretended(tmp_path, 4, Pretended(lambda name, job: Measurement("timeout", message="it took an hour"))).run()


def test_the_best_of_a_search_is_confirmed_before_it_wins(tmp_path):
    lucky = []

    def answer(name, job):
        if name == "untuned":
            return ok(1.0)
        if name.endswith("-again"):
            return ok(1.2)
        lucky.append(name)
        return ok(0.5 if len(lucky) == 1 else 0.9)

    tuned = pretended(tmp_path, 5, Pretended(answer))
    tuned.run()
    verdict = Tuned(Database(tmp_path).records(), native_variant()).verdict(binary_layer())
    assert not verdict.is_tuned and "untuned kernel is the best" in verdict.reason


def records_of(ratio: float, **more) -> Record:
    variant, function = native_variant(), binary_layer()
    decisions = {"formulation": "popcount"}
    versions = [kernel_version(build_kernel(function, variant, d).func) for d in (decisions, {})]
    given = {"target": target_key(variant), "workload": workload_key(function), "kernel": versions[0], "untuned": versions[1], "decisions": decisions}
    return Record(**{**given, "status": "ok", "metric": "seconds", "value": ratio, "untuned_value": 1.0, "machine": "m", "stage": "confirm", **more})


def test_the_best_record_decides_the_kernel():
    verdict = Tuned([records_of(0.7)], native_variant()).verdict(binary_layer())
    assert verdict.is_tuned and verdict.decisions == {"formulation": "popcount"} and "0.70 of the untuned seconds" in verdict.reason


@pytest.mark.parametrize("ratios, taken", [((0.9,), True), ((1.02,), False), ((0.97, 1.1, 0.98), True), ((1.2, 1.1, 0.98), False)])
def test_a_kernel_that_is_slower_in_the_network_is_not_taken(ratios, taken):
    known = [records_of(0.7), *(records_of(ratio, stage="network") for ratio in ratios)]
    verdict = Tuned(known, native_variant()).verdict(binary_layer())
    assert verdict.is_tuned == taken and verdict.holds
    assert "0.70" in verdict.reason and ("in the network" in verdict.reason) == (not taken)
    assert best_decisions(known)[1] == 0.7, "what it takes alone is another number"


def test_a_kernel_that_threads_cannot_share_replaces_none_that_they_can_where_there_are_several():
    function, variant = float_image(), native_variant()
    schedule = s_tir.Schedule(tvm.IRModule({"main": plain_loops(function)}))  # not scheduled at all, but for a buffer that keeps threads out
    schedule.cache_write(schedule.get_sblock("conv2d_nhwc"), 0, "global")
    decisions = {TRACE: trace_text(schedule.trace)}
    versions = [kernel_version(build_kernel(function, variant, each).func) for each in (decisions, {})]
    given = target_key(variant), workload_key(function), *versions, decisions, "ok", "seconds", 0.5, 1.0, "m", "confirm"
    assert Tuned([Record(*given)], variant).verdict(function).is_tuned
    shared = Tuned([Record(*given)], variant, threads=2).verdict(function)
    assert not shared.is_tuned and "cannot be shared" in shared.reason


def float_image():
    """A convolution large enough that threads share it."""

    def emit(b, x, w):
        return R.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO")

    return group(emit, ((1, 34, 34, 8), "float32"), ((3, 3, 8, 32), "float32"), constants=(1,))


@pytest.mark.parametrize("changed", [{"kernel": "0" * 16}, {"untuned": "0" * 16}, {"decisions": {"formulation": "gone"}}])
def test_a_record_of_another_version_is_not_applied_and_told(changed):
    tuned = Tuned([records_of(0.7, **changed)], native_variant())
    assert tuned.decide(binary_layer()) == ({}, "") and tuned.stale == 1
    assert "another version" in tuned.verdict(binary_layer()).reason


def test_seconds_of_an_emulated_device_choose_no_kernel():
    verdict = Tuned([records_of(0.7, metric="emulated seconds")], native_variant()).verdict(binary_layer())
    assert not verdict.is_tuned and "say nothing of a processor" in verdict.reason


@pytest.mark.parametrize("changed", [{"target": "another"}, {"workload": "0" * 16}])
def test_a_record_of_another_target_or_layer_does_not_count(changed):
    tuned = Tuned([records_of(0.7, **changed)], native_variant())
    assert tuned.verdict(binary_layer()).reason == "not tuned" and tuned.stale == 0


def test_a_gain_within_the_noise_leaves_the_untuned_kernel():
    assert not Tuned([records_of(0.99)], native_variant()).verdict(binary_layer()).is_tuned


def test_numbers_of_two_machines_are_not_mixed():
    slow = [records_of(0.6, machine="one")]
    many = [records_of(1.3, machine="two"), records_of(1.2, machine="two")]
    assert not Tuned([*slow, *many], native_variant()).verdict(binary_layer()).is_tuned


def killed_tuners(folder: Path, times: int, seed: int, most: int, wait: float = 60) -> None:
    """Kill tuners at random moments after they have kept up to `most` records, and their workers; assert that no record was lost that a tuner had kept."""
    rng = random.Random(seed)
    kept: list[Record] = []
    for turn in range(times):
        tuner = subprocess.Popen([*TUNER, str(folder), str(6 * (turn + 1))], stdout=subprocess.PIPE, text=True, start_new_session=True)
        lines: list[str] = []
        reader = threading.Thread(target=lambda lines=lines, out=tuner.stdout: lines.extend(out))
        reader.start()
        enough, moment = rng.randint(0, most), time.monotonic() + wait
        # a tuner that has kept its records is killed within what the next one takes, one that is to keep none while it starts
        while time.monotonic() < moment and tuner.poll() is None:
            if len(lines) >= enough:
                moment = min(moment, time.monotonic() + rng.uniform(0, 1.5))
                enough = math.inf
            time.sleep(0.02)
            workers = psutil.Process(tuner.pid).children(recursive=True) if tuner.poll() is None else []
            if workers and rng.random() < 0.02:
                _kill(rng.choice(workers).pid)
        _kill(tuner.pid)
        tuner.wait()
        _end_group(tuner.pid)
        reader.join()
        kept += [r for line in lines if (r := read_record(line)) is not None]
        found = [r.to_line() for r in Database(folder).records()]
        assert all(r.to_line() in found for r in kept), f"a record was lost in turn {turn}"
        assert len(found) <= len(kept) + 4 * (turn + 1)
    last = subprocess.run([*TUNER, str(folder), str(len({r.kernel for r in kept}) + 1)], stdout=subprocess.PIPE, text=True, check=True)
    assert last.stdout, "a tuner goes on afterwards"
    kernels = [json.loads(r.to_line())["kernel"] for r in Database(folder).records() if r.stage == "search" and r.status == "ok"]
    assert len(kernels) == len(set(kernels)), "nothing is measured twice"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _end_group(group: int) -> None:
    """End what a killed tuner left: its workers, in its own group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_killing_tuner_and_workers_loses_no_record(tmp_path):
    killed_tuners(tmp_path, 2, seed=1, most=3)


@pytest.mark.slow
def test_killing_tuner_and_workers_twenty_times_loses_no_record(tmp_path):
    killed_tuners(tmp_path, 20, seed=2, most=8)
