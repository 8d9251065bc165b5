"""Devices, their tracker and the tuner are killed at random moments: what was recorded stays, and the rest goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bnncc.tuning.database import Database
from tests.remote.servers import Program, rpc_server, rpc_tracker
from tests.tuning.handmade import DOUBLE, job

ROOT = Path(__file__).resolve().parents[2]


class Campaign:
    """A tracker, two devices and a tuner, each of which can be killed and is started again."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self._stack, self._count = folder, stack, 0
        self.database, self.printed = Database(folder / "database"), folder / "printed"
        job(folder / "job", "struct timespec t = {0, 5000000}; nanosleep(&t, 0);" + DOUBLE)
        self.tracker: Program = stack.enter_context(rpc_tracker(self._new()))
        with ThreadPoolExecutor(2) as threads:
            started = [threads.submit(self._device) for _ in range(2)]
            self.devices: list[Program] = [each.result() for each in started]
        self.tuner = self._tuner()
        stack.callback(lambda: self._end(self.tuner))

    def _new(self) -> Path:
        self._count += 1
        return self.folder / f"program{self._count}"

    def _device(self) -> Program:
        return self._stack.enter_context(rpc_server(self._new(), "board", self.tracker.address, lasting=True))

    def _tuner(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.tuning.campaign", self.tracker.address, "board", self.database.directory, self.folder / "job"]
        with self.printed.open("a") as output, (self.folder / "errors").open("a") as errors:
            return subprocess.Popen(list(map(str, command)), stdout=output, stderr=errors, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})

    @staticmethod
    def _end(tuner: subprocess.Popen) -> None:
        tuner.send_signal(signal.SIGKILL)
        tuner.wait()

    def kill(self, what: str) -> None:
        """Kill one of them and start it again."""
        if what == "tuner":
            self._end(self.tuner)
            self.tuner = self._tuner()
        elif what == "tracker":
            self.tracker.kill()
            self.tracker = self._stack.enter_context(rpc_tracker(self._new(), int(self.tracker.address.rpartition(":")[2])))
        else:
            self.devices.pop(0).kill()
            self.devices.append(self._device())

    def numbers(self) -> list[int]:
        """Return the numbers of the records that the tuner said it had kept."""
        text = self.printed.read_text() if self.printed.exists() else ""
        return [int(line) for line in text.split("\n")[:-1]]

    def wait_for(self, more: int, seconds: float = 150) -> None:
        """Wait until the tuner kept so many more."""
        wanted, end = len(self.numbers()) + more, time.monotonic() + seconds
        while len(self.numbers()) < wanted:
            assert time.monotonic() < end, (self.folder / "errors").read_text()[-2000:]
            if self.tuner.poll() is not None:  # it ended, as no device was there for long; a user starts it again
                self.tuner = self._tuner()
            time.sleep(0.1)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_no_record_is_lost_when_devices_tracker_and_tuner_are_killed(kills, tmp_path):
    chance = random.Random(0)
    with ExitStack() as stack:
        campaign = Campaign(tmp_path, stack)
        campaign.wait_for(2)
        for number in range(kills):
            time.sleep(chance.uniform(0, 0.6))  # some trials
            campaign.kill(("device", "tracker", "tuner")[number % 3])
            campaign.wait_for(1)
        campaign.wait_for(2)
    told = campaign.numbers()
    kept = [record.decisions["number"] for record in campaign.database.records("campaign")]
    assert set(told) <= set(kept) and len(kept) >= len(told)
    assert {record.status for record in campaign.database.records("campaign")} == {"ok"}
    lines = campaign.database.file_of("campaign").read_text().split("\n")[:-1]
    torn = len(lines) - len(kept)
    print(f"{kills} kills: {len(told)} records said to be kept, {len(kept)} found, {torn} torn lines")
    assert 0 <= torn <= -(-kills // 3)  # one at most for each time that the tuner died
