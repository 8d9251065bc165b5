from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bnncc.errors import OutputError
from bnncc.tuning.database import Database, merge
from bnncc.tuning.record import FORMAT, Record, read_record


def record(workload="w", target="t", **more) -> Record:
    given = {"kernel": "k", "untuned": "u", "decisions": {"tile": (4, 3)}, "status": "ok", "metric": "seconds", "value": 1.0, "untuned_value": 2.0}
    return Record(target, workload, **{**given, "machine": "m", **more})


def test_a_record_is_one_line_that_reads_back_as_itself():
    line = record(note="a\nb").to_line()
    assert line.count("\n") == 1 and read_record(line) == record(note="a\nb")


OTHER_FORMAT = record().to_line().replace(f'"format":{FORMAT}', '"format":99')


@pytest.mark.parametrize("line", ["", "{", "[1]", "null", '{"format":1}', record().to_line()[:-9], OTHER_FORMAT])
def test_what_is_no_record_of_this_format_is_not_read(line):
    assert read_record(line) is None


def test_records_are_found_by_target_in_the_order_written(tmp_path):
    database = Database(tmp_path / "new")
    for r in (record("a"), record("b", "other"), record("c")):
        database.append(r)
    assert [r.workload for r in database.records("t")] == ["a", "c"] and len(database.records()) == 3


def test_targets_whose_names_give_one_file_are_kept_apart(tmp_path):
    database = Database(tmp_path)
    database.append(record("a", "t 1"))
    database.append(record("b", "t_1"))
    assert [r.workload for r in database.records("t 1")] == ["a"] and [r.workload for r in database.records("t_1")] == ["b"]


@pytest.mark.parametrize("left", [2, 30, 200])
def test_a_torn_last_line_loses_that_record_alone(tmp_path, left):
    database = Database(tmp_path)
    for name in "abc":
        database.append(record(name))
    path = database.file_of("t")
    path.write_bytes(path.read_bytes()[:-left])
    database.append(record("d"))
    assert [r.workload for r in database.records("t")] == ["a", "b", "d"]


_APPEND = """
import sys
from bnncc.tuning.database import Database
from bnncc.tuning.record import Record
database = Database(sys.argv[1])
for i in range(100):
    database.append(Record("t", f"{sys.argv[2]}{i}", "k", "u", {"long": "x" * 5000}, "ok", "seconds", 1.0, 2.0, "m"))
"""


def test_two_processes_append_to_one_database_without_loss(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", _APPEND, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert sorted(r.workload for r in Database(tmp_path).records("t")) == sorted(f"{name}{i}" for name in "ab" for i in range(100))


def test_merging_adds_what_is_new_once(tmp_path):
    one, other = Database(tmp_path / "one"), Database(tmp_path / "other")
    one.append(record("a"))
    other.append(record("a"))
    other.append(record("b", "t2"))
    assert merge([other.directory], one.directory) == (1, 1)
    assert merge([other.directory], one.directory) == (0, 2)
    assert {r.workload for r in one.records()} == {"a", "b"}


def test_merging_what_is_no_folder_is_told(tmp_path):
    with pytest.raises(OutputError, match="no folder of tuning records"):
        merge([tmp_path / "absent"], tmp_path)


def test_a_database_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Database(tmp_path / "file").append(record())


def test_a_database_that_does_not_exist_holds_nothing(tmp_path):
    assert Database(tmp_path / "absent").records("t") == [] and not os.path.exists(tmp_path / "absent")


def test_a_line_that_lacks_its_end_alone_is_whole(tmp_path):
    database = Database(tmp_path)
    database.append(record("a"))
    path = database.file_of("t")
    path.write_bytes(path.read_bytes()[:-1])
    database.append(record("b"))
    assert [r.workload for r in database.records("t")] == ["a", "b"]
