"""Records on disk: append-only JSON lines in a folder, one file for each target.

A record is one line, written by one call to a file opened for appending, under a lock: several processes may append, and what a kill tears is the last line
at most. Whoever appends next ends a torn line first, so that no record joins it. Nothing is ever rewritten, so a folder can be committed and merged by
concatenation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import filelock
import platformdirs

from bnncc.errors import OutputError
from bnncc.tuning.record import Record, read_record

__all__ = ["Database", "database_directory", "merge"]


def database_directory() -> Path:
    """Return the user's own database: the variable BNNCC_TUNING_DIR, else a folder of the user's data."""
    return Path(os.environ.get("BNNCC_TUNING_DIR") or Path(platformdirs.user_data_dir("bnncc", appauthor=False)) / "tuning")


class Database:
    """A folder of records.

    Parameters
    ----------
    directory : Path
        Made when the first record is written.
    """

    def __init__(self, directory: Path):
        self.directory = Path(directory)

    def file_of(self, target: str) -> Path:
        """Return the file that holds the records of a target."""
        return self.directory / (re.sub(r"[^A-Za-z0-9.+,-]+", "_", target) + ".jsonl")

    def append(self, record: Record) -> None:
        """Keep a record; it is on disk when this returns.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        path = self.file_of(record.target)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.directory / "lock"):
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
                try:
                    size = os.fstat(descriptor).st_size
                    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                    content = (b"\n" if torn else b"") + record.to_line().encode()
                    if os.write(descriptor, content) != len(content):
                        raise OSError("the disk is full")
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise OutputError(
                f"The record cannot be written to {path}: {error.strerror or error}. Name a folder that you may write to with --database."
            ) from error

    def records(self, target: str | None = None) -> list[Record]:
        """Return the records of a target, or all, in the order written; lines that are no records are left out.

        Raises
        ------
        OutputError
            A file cannot be read.
        """
        if target is not None:
            paths = [path] if (path := self.file_of(target)).exists() else []
        else:
            paths = sorted(self.directory.glob("*.jsonl"))
        found = []
        for path in paths:
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            except OSError as error:
                raise OutputError(f"The records in {path} cannot be read: {error.strerror or error}.") from error
            found += [record for line in lines if line and (record := read_record(line)) is not None]
        return [record for record in found if target is None or record.target == target]


def merge(sources: Iterable[Path], into: Path) -> tuple[int, int]:
    """Append to a database the records of others that it does not hold yet.

    Returns
    -------
    (int, int)
        How many were added, and how many it held already.

    Raises
    ------
    OutputError
        A source is no folder, or something cannot be read or written.
    """
    database = Database(into)
    known = {record.to_line() for record in database.records()}
    added = held = 0
    for source in sources:
        if not Path(source).is_dir():
            raise OutputError(f"{source} is no folder of tuning records; give what was given to `bnncc tune --database`.")
        for record in Database(source).records():
            line = record.to_line()
            if line in known:
                held += 1
                continue
            known.add(line)
            database.append(record)
            added += 1
    return added, held
