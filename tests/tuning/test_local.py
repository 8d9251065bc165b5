from __future__ import annotations

import os
import platform

import pytest

from bnncc.targets.x86 import native_variant
from bnncc.tuning.candidate import BuildPool
from bnncc.tuning.local import LocalRunner
from tests.tuning.handmade import DOUBLE, job

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the handmade candidates are for x86-64")


@pytest.fixture
def runner():
    made = LocalRunner("here", timeout=20)
    yield made
    made.close()


def test_a_right_candidate_is_timed_beside_the_untuned_kernel(runner, tmp_path):
    found = runner.measure(job(tmp_path / "job", DOUBLE))
    assert found.status == "ok" and 0 < found.value < 1e-3 and 0 < found.untuned_value < 1e-3


@pytest.mark.parametrize(
    "body, message",
    [
        ("for (int i = 0; i < 4; i++) y[i] = 2 * x[i] + (x[i] < 0);", "of output 0 differ"),  # wrong on the second sample alone
        (DOUBLE + " y[4] = 1;", "outside of output 0"),
        (DOUBLE + " ((float *)y)[-1] = 1;", "outside of output 0"),
        ("", "of output 0 differ"),
    ],
)
def test_a_wrong_candidate_is_found_and_not_timed(runner, tmp_path, body, message):
    found = runner.measure(job(tmp_path / "job", body))
    assert found.status == "wrong" and message in found.message and found.value is None


def test_a_crash_is_a_failure_and_the_next_candidate_is_measured(runner, tmp_path):
    found = runner.measure(job(tmp_path / "one", "*(volatile int *)0 = 1;"))
    assert found.status == "crash" and "-11" in found.message
    assert runner.measure(job(tmp_path / "two", DOUBLE)).status == "ok"


def test_an_endless_loop_is_a_failure_within_the_time_limit(runner, tmp_path):
    runner.timeout = 3
    found = runner.measure(job(tmp_path / "one", "for (volatile int i = 0;; i++) {}"))
    assert found.status == "timeout" and "3 s" in found.message


def test_builds_that_take_too_long_or_end_their_process_are_failures_and_the_pool_goes_on(tmp_path):
    pool = BuildPool(1, 2)
    try:
        os.mkfifo(tmp_path / "endless.json")  # who reads it waits for one who writes
        found = pool.build(tmp_path / "endless.json", native_variant(), [({}, tmp_path / "a")])[0]
        assert found.status == "timeout" and found.folder is None
    finally:
        pool.close()
    pool = BuildPool(1, 120)
    try:
        (tmp_path / "module.json").write_text("no module")
        found = pool.build(tmp_path / "module.json", native_variant(), [({}, tmp_path / "a"), ({}, tmp_path / "b")])
        assert [one.status for one in found] == ["crash", "crash"] and found[0].message
    finally:
        pool.close()
