"""A tuner to be killed: ``campaign.py TRACKER KEY DATABASE JOB`` measures one job again and again on all devices and prints the number of each record kept.

It is what a tuning session does with its runner and its database, without the building of candidates, which would take most of the time.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bnncc.remote import Device
from bnncc.tuning.database import Database
from bnncc.tuning.record import Record
from bnncc.tuning.remote import RemoteRunner
from bnncc.tuning.runner import Job

__all__ = ["main"]


def main(tracker: str, key: str, database: str, folder: str) -> None:
    """Measure until the process ends."""
    kept = Database(Path(database))
    number = len(kept.records("campaign"))
    job = Job(Path(folder, "candidate"), Path(folder, "untuned"), Path(folder, "samples.npz"), 5)
    runner = RemoteRunner(Device(tracker, key, 10), "x86_64-linux-gnu")
    with ThreadPoolExecutor(runner.workers) as threads:
        while True:
            for measured in threads.map(runner.measure, [job] * 2 * runner.workers):
                fields = (measured.status, runner.metric, measured.value, measured.untuned_value, runner.machine)
                kept.append(Record("campaign", "job", "candidate", "untuned", {"number": number}, *fields, message=measured.message))
                print(number, flush=True)
                number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
