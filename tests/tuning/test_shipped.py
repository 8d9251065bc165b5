from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from group_runner import group
from test_space import binary_layer

from bnncc.ops import bnn
from bnncc.runtime import load
from bnncc.schedules import build_kernel
from bnncc.targets import find_target
from bnncc.targets.x86 import V3, V4, runs_here
from bnncc.toolchain import is_native
from bnncc.tuning.best import Tuned
from bnncc.tuning.candidate import build_model
from bnncc.tuning.core import core_of
from bnncc.tuning.record import Record, read_record
from bnncc.tuning.shipped import Shipped, shipped_database, shipped_record
from bnncc.tuning.target_key import target_key
from bnncc.tuning.task import kernel_version, workload_key

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from shipped_records import common_networks, group_of, tasks_of  # noqa: E402

TYPES = ((1, 6, 6, 1), "uint64"), ((64, 3, 3, 1), "uint64"), ((1, 64), "int32"), ((64,), "int8")
TILE = {"lookup tile": (2, 2), "epilogue vectors": 2}
SHIPPED_FOR = "x86-64-v3", "cortex-a55", "cortex-a76", "cortex-m4", "cortex-m7"
COMPARED = "128x28", "256x14"


def pooled_layer():
    """The layer of `binary_layer`, with a maximum over windows behind it."""

    def emit(b, x, w, thresholds, flip):
        sums = b.emit(bnn.packed_conv2d(x, w, channels=64))
        bits = b.emit(bnn.pack(b.emit(bnn.quantize(sums, thresholds, flip)), channels=64))
        from bnncc.passes.rewrite import const

        return bnn.packed_max_pool2d(bits, const([0], "uint64"), pool_size=(2, 2), strides=(2, 2), dilation=(1, 1), padding=(0, 0, 0, 0))

    return group(emit, *TYPES, constants=(1, 2, 3))


def sums_layer():
    """The same convolution, whose sums are the output."""
    return group(lambda b, x, w: bnn.packed_conv2d(x, w, channels=64), *TYPES[:2], constants=(1,))


def measured(decisions=TILE, ratio: float = 0.8, function=None, variant=V3) -> Record:
    """What a tuner would have recorded of `binary_layer`."""
    function = function or binary_layer()
    versions = [kernel_version(build_kernel(function, variant, d).func) for d in (decisions, {})]
    return Record(target_key(variant), workload_key(function), *versions, decisions, "ok", "seconds", ratio, 1.0, "a machine", "confirm")


def shipped(**changed) -> Shipped:
    return Shipped(V3, [replace(shipped_record(binary_layer(), V3, measured(), 0.8), **changed)])


def test_the_core_of_a_layer_is_its_contraction_with_the_thresholds_behind_it():
    core, pooled, sums = core_of(binary_layer()), core_of(pooled_layer()), core_of(sums_layer())
    assert workload_key(core.function) == workload_key(pooled.function) != workload_key(sums.function)
    assert core.around == () and pooled.around == ("packed_max_pool2d",)
    assert core.title == "packed_conv2d uint64[1, 6, 6, 1] x uint64[64, 3, 3, 1] -> [1, 4, 4, 64], bits"


def test_a_group_without_an_anchor_has_no_core():
    from tvm.script import relax as R

    assert core_of(group(lambda b, x: R.nn.relu(x), ((1, 4, 4, 64), "float32"))) is None


def test_the_same_layer_in_a_network_that_nobody_tuned_gets_the_kernel_that_was_measured():
    verdict = shipped().verdict(binary_layer("another name"))
    assert verdict.is_tuned and verdict.decisions == TILE and "0.80 of the untuned seconds (a machine)" in verdict.reason


def test_what_was_decided_around_a_core_is_not_carried_over_to_other_operators():
    verdict = shipped().verdict(pooled_layer())
    assert verdict.is_tuned and verdict.decisions == {"lookup tile": (2, 2)} and "other operators around it" in verdict.reason


def test_records_of_the_user_that_do_not_hold_leave_the_kernel_to_those_that_come_with_the_package():
    for changed in ({"untuned": "0" * 16}, {"kernel": "0" * 16}, {"metric": "emulated seconds"}):
        tuned = Tuned([replace(measured(), **changed)], V3, shipped())
        decisions, note = tuned.decide(binary_layer())
        assert decisions == TILE and "as shipped" in note and tuned.stale == ("metric" not in changed)
    best_known = Tuned([measured(ratio=1.0)], V3, shipped())
    assert best_known.decide(binary_layer()) == ({}, ""), "the user's own machine says that nothing is gained"


def test_another_shape_or_target_gets_nothing():
    assert shipped().verdict(sums_layer()) is None
    assert Shipped(V4, [shipped_record(binary_layer(), V3, measured(), 0.8)]).verdict(binary_layer()) is None


@pytest.mark.parametrize("changed", [{"kernel": "0" * 16}, {"untuned": "0" * 16}, {"decisions": {"lookup tile": (4, 2)}}])
def test_a_record_of_another_version_is_not_applied_and_said(changed):
    tuned = Tuned([], V3, shipped(**changed))
    decisions, remark = tuned.decide(binary_layer())
    assert decisions == {} and "another version" in remark and not tuned.stale, "the user cannot mend it"


def test_records_of_the_user_come_first():
    mine = measured({"lookup tile": (4, 2)}, 0.7)
    assert Tuned([mine], V3, shipped()).decide(binary_layer())[0] == {"lookup tile": (4, 2)}
    kept = measured({"lookup tile": (4, 2)}, 1.2)
    assert Tuned([kept], V3, shipped()).decide(binary_layer())[0] == {}, "measured here, the untuned kernel is the best"


def test_a_gain_that_may_be_noise_is_shipped_as_no_change():
    record = shipped_record(binary_layer(), V3, measured(ratio=0.99), 0.99)
    assert record.decisions == {} and record.kernel == record.untuned
    assert Shipped(V3, [record]).verdict(binary_layer()).decisions == {}


def test_a_record_survives_the_way_through_its_file():
    record = shipped_record(pooled_layer(), V3, measured(function=pooled_layer()), 0.8)
    assert read_record(record.to_line()) == record


@pytest.mark.parametrize("name", SHIPPED_FOR)
def test_all_shipped_records_are_of_the_present_kernels(name):
    """Where this fails a generator has changed: run `benchmarks/shipped_records.py` for the target, or take its file away."""
    variant = find_target(name).variants[-1]
    records = shipped_database().records(target_key(variant))
    assert records, f"bnncc has no records for {name} as it stands"
    left, by_shipped = {record.workload for record in records}, Shipped(variant)
    titles = {record.title for record in records}
    for model in common_networks(variant):
        for task in tasks_of(model, variant):
            core = core_of(group_of(task))
            if core is not None and core.title in titles and (verdict := by_shipped.verdict(group_of(task))) is not None:
                assert not verdict.is_stale, (core.title, verdict.reason)
                left.discard(workload_key(core.function))
    assert not left, f"{len(left)} records are of no common shape"

@pytest.mark.parametrize("name", ["x86-64-v3", "cortex-a55"])
def test_a_kernel_as_shipped_computes_the_same_bits(name, tmp_path):
    variant = find_target(name).variants[-1]
    if is_native(variant.tvm_target["mtriple"]) and not runs_here(variant):
        pytest.skip(f"this machine does not run {name}")
    by_shipped, rng = Shipped(variant), np.random.default_rng(5)
    tuned = {}
    for model in common_networks(variant, COMPARED):
        for task in tasks_of(model, variant):
            verdict = by_shipped.verdict(group_of(task))
            if verdict is not None and verdict.is_tuned:
                tuned.setdefault(tuple(sorted(verdict.decisions.items())), task)
    if not tuned:
        pytest.skip(f"no record for {name} gains on {COMPARED}")
    for number, (decisions, task) in enumerate(sorted(tuned.items(), key=lambda item: item[1].macs)[:3]):
        main = task.module["main"]
        arrays = []
        for param in main.params:
            shape, dtype = tuple(int(d) for d in param.ty.shape.values), str(param.ty.dtype)
            whole = dtype.startswith("uint")
            arrays.append(rng.integers(0, 2 ** int(dtype[4:]), shape, dtype) if whole else np.rint(2 * rng.standard_normal(shape)).astype(dtype))
        made = []
        for decided in ({}, dict(decisions)):
            folder = tmp_path / f"{number}{bool(decided)}"
            build_model(task.module, variant, decided, folder)
            made.append([np.asarray(array).tobytes() for array in load(folder).run_entry("main", *arrays)])
        assert made[0] == made[1], (task.title, decisions)
