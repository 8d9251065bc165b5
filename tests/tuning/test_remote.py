"""Trials on devices that TVM's RPC reaches: each fault of a candidate is a measurement, each fault of a device is another's work."""

from __future__ import annotations

import platform
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bnncc.errors import DeviceError, TargetError
from bnncc.remote import Device
from bnncc.targets import find_target
from bnncc.targets.x86 import V2, V3, V4
from bnncc.tuning.local import LocalRunner
from bnncc.tuning.remote import RemoteRunner
from tests.remote.servers import Relay, rpc_server, rpc_tracker
from tests.tuning.handmade import DOUBLE, TRIPLE, job

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the candidates are of this machine's kind")
SPIN = (
    "struct timespec s, t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &s); do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);"
    " while ((t.tv_sec - s.tv_sec) * 1000000000L + t.tv_nsec - s.tv_nsec < {ns});"
) + DOUBLE
SLEEP = "struct timespec t = {{0, {ns}}}; nanosleep(&t, 0);" + DOUBLE


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with rpc_server(tmp_path_factory.mktemp("server")) as program:
        yield program


@pytest.fixture(scope="module")
def runner(server):
    runner = RemoteRunner(Device(server.address, "board", 6), TRIPLE)
    yield runner
    runner.close()


def test_a_right_candidate_is_timed_beside_the_untuned_one(runner, server, tmp_path):
    assert runner.workers == 1 and runner.metric == "seconds" and runner.machine.startswith("board: ")
    measured = runner.measure(job(tmp_path / "job", SPIN.format(ns=3_000_000)))
    assert measured.status == "ok" and measured.value >= 3e-3 > measured.untuned_value > 0
    assert server.left() == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("for (int i = 0; i < 4; i++) y[i] = 3 * x[i];", "wrong", "bytes of output 0 differ"),
        (DOUBLE + "if (x[0] < 0) y[0] = 0;", "wrong", "2 of 16 bytes"),  # in the second sample only
        (DOUBLE + "y[4] = 1;", "wrong", "wrote outside"),
        (DOUBLE + "y[-1] = 1;", "wrong", "wrote outside"),
        ("*(volatile int *)0 = 1;", "crash", "signal 11"),
        ("abort();", "crash", "signal 6"),
        ("for (volatile int i = 0;; i++);", "timeout", "did not end within 4 s"),
        ("return 7;", "crash", "it returned 7"),
    ],
)
def test_what_a_candidate_does_wrong_ends_neither_the_runner_nor_the_device(body, status, message, runner, server, tmp_path):
    measured = runner.measure(job(tmp_path / "job", body))
    assert measured.status == status and message in measured.message, measured
    assert server.left() == []


def test_the_device_still_measures_after_all_that(runner, tmp_path):
    assert runner.measure(job(tmp_path / "job", DOUBLE)).status == "ok"


def test_of_a_target_with_variants_the_best_that_the_device_runs_is_tuned(runner, monkeypatch):
    every = find_target("x86-64")
    for flags, expected in [(V4.cpu_features, "v4"), (V3.cpu_features, "v3"), (V2.cpu_features, "v2")]:
        monkeypatch.setattr(runner, "_features", frozenset(flags))
        assert [variant.name for variant in runner.best_part(every).variants] == [expected]
    monkeypatch.setattr(runner, "_features", frozenset({"fpu"}))
    with pytest.raises(TargetError, match="none of the variants of x86-64"):
        runner.best_part(every)
    assert runner.best_part(find_target("cortex-a55")) is find_target("cortex-a55")


def test_the_features_of_a_device_are_those_that_it_lists(runner):
    assert runner.best_part(find_target("x86-64")).variants == LocalRunner("here").best_part(find_target("x86-64")).variants


def test_a_session_that_breaks_is_tried_again_and_a_device_that_stays_away_ends_the_patience(server, tmp_path):
    with Relay(server.address) as relay:
        runner = RemoteRunner(Device(relay.address, "board", 3), TRIPLE, patience=4)
        asked = job(tmp_path / "job", DOUBLE)
        assert runner.measure(asked).status == "ok"
        relay.end()
        start = time.monotonic()
        with pytest.raises(DeviceError, match="Nothing answers"):
            runner.measure(asked)
        assert 4 < time.monotonic() - start < 30
        runner.close()


def rate(runner: RemoteRunner, asked, trials: int) -> float:
    """Return trials a minute, measured as a tuning session does: as many at once as there are devices."""
    start = time.monotonic()
    with ThreadPoolExecutor(runner.workers) as threads:
        statuses = [measured.status for measured in threads.map(lambda _: runner.measure(asked), range(trials))]
    assert set(statuses) == {"ok"}
    return 60 * trials / (time.monotonic() - start)


@pytest.mark.slow
def test_three_devices_of_a_tracker_measure_at_more_than_twice_the_rate_of_one_and_the_dead_ones_work_is_done_by_others(tmp_path):
    """Of each key as many servers as the key says; the kernel sleeps, so measuring dominates and takes no processor from the others."""
    asked = job(tmp_path / "job", SLEEP.format(ns=40_000_000), calls=30)
    with rpc_tracker(tmp_path / "tracker") as tracker, rpc_server(tmp_path / "alone", "one", tracker.address):
        one = RemoteRunner(Device(tracker.address, "one", 60), TRIPLE)
        alone = rate(one, asked, 4)
        with (
            rpc_server(tmp_path / "first", "three", tracker.address) as first,
            rpc_server(tmp_path / "second", "three", tracker.address),
            rpc_server(tmp_path / "third", "three", tracker.address),
        ):
            three = RemoteRunner(Device(tracker.address, "three", 60), TRIPLE)
            assert three.workers == 3
            together = rate(three, asked, 12)
            print(f"{alone:.1f} trials a minute by one device, {together:.1f} by three: {together / alone:.2f} times")
            assert together / alone >= 2.2
            with ThreadPoolExecutor(3) as threads:
                measured = [threads.submit(three.measure, asked) for _ in range(6)]
                time.sleep(1.5)
                first.kill()
                assert [each.result().status for each in measured] == ["ok"] * 6
