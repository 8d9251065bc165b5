"""An output folder appears whole or not at all, and nothing foreign is touched."""

from __future__ import annotations

import errno
import json
import os

import pytest

from bnncc.codegen.output import FORMAT, METADATA_FILE, output_folder
from bnncc.errors import OutputError


def write(folder, **files):
    files = {name.replace("__", "."): text for name, text in files.items()}
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / METADATA_FILE).write_text(json.dumps({"format": FORMAT, "files": [*files, METADATA_FILE]}))


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_a_new_folder_appears_with_its_parents(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with output_folder(out) as staging:
        write(staging, lib__so="1")
        assert not out.exists()
    assert sorted(path.name for path in out.iterdir()) == ["lib.so", METADATA_FILE]
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
    assert out.stat().st_mode & 0o777 == (tmp_path / "a").stat().st_mode & 0o777


def test_an_earlier_output_is_replaced_and_its_other_files_go(tmp_path):
    out = tmp_path / "out"
    with output_folder(out) as staging:
        write(staging, old__so="1", old__h="1")
    inode = out.stat().st_ino
    with output_folder(out) as staging:
        write(staging, new__so="2")
    assert sorted(path.name for path in out.iterdir()) == [METADATA_FILE, "new.so"]
    assert out.stat().st_ino == inode


def test_an_empty_folder_that_somebody_is_in_is_filled_in_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with output_folder(".") as staging:
        write(staging, lib__so="1")
    assert sorted(os.listdir(".")) == ["lib.so", METADATA_FILE]


def other_file(out):
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")


def own_output_and_other_file(out):
    out.mkdir()
    write(out, lib__so="1")
    (out / "notes.txt").write_text("mine")


def somebody_elses_metadata(out):
    out.mkdir()
    (out / METADATA_FILE).write_text('{"format": "other", "files": ["metadata.json"]}')


def damaged_metadata(out):
    out.mkdir()
    (out / METADATA_FILE).write_text("{")


def metadata_of_another_kind(out):
    out.mkdir()
    (out / METADATA_FILE).write_text("[1]")


@pytest.mark.parametrize(
    "fill", [other_file, own_output_and_other_file, somebody_elses_metadata, damaged_metadata, metadata_of_another_kind]
)
def test_a_folder_with_other_content_is_left_alone(tmp_path, fill):
    fill(tmp_path / "out")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is left as it is"), output_folder(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert tree(tmp_path) == before


def test_a_file_in_the_place_is_left_alone(tmp_path):
    (tmp_path / "out").write_text("data")
    with pytest.raises(OutputError, match="exists and is not a folder"), output_folder(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert (tmp_path / "out").read_text() == "data"


def test_a_dangling_link_is_left_alone(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists and is not a folder"), output_folder(tmp_path / "out"):
        pytest.fail("the block must not run")


def test_a_place_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("data")
    with pytest.raises(OutputError, match="cannot be written"), output_folder(tmp_path / "file" / "a" / "out"):
        pytest.fail("the block must not run")
    assert tree(tmp_path) == {"file": "data"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_cannot_be_written(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="Permission denied"), output_folder(tmp_path / "closed" / "out"):
        pytest.fail("the block must not run")


def test_a_failure_leaves_nothing_new(tmp_path):
    with pytest.raises(RuntimeError), output_folder(tmp_path / "a" / "out") as staging:
        write(staging, lib__so="1")
        raise RuntimeError
    assert tree(tmp_path) == {}


def test_a_failure_leaves_the_earlier_output(tmp_path):
    with output_folder(tmp_path / "out") as staging:
        write(staging, lib__so="1")
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), output_folder(tmp_path / "out") as staging:
        write(staging, lib__so="2")
        raise KeyboardInterrupt
    assert tree(tmp_path) == before


def test_a_full_disk_is_told_and_cleaned_up(tmp_path):
    out = tmp_path / "a" / "out"
    with pytest.raises(OutputError, match="out cannot be written: No space left on device"), output_folder(out) as staging:
        write(staging, lib__so="1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert tree(tmp_path) == {}


def test_metadata_cannot_have_files_of_other_folders_deleted(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    out = tmp_path / "out"
    out.mkdir()
    files = [METADATA_FILE, "../thesis.txt", str(tmp_path / "thesis.txt")]
    (out / METADATA_FILE).write_text(json.dumps({"format": FORMAT, "files": files}))
    with output_folder(out) as staging:
        write(staging, lib__so="1")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failing_move_is_told_and_cleaned_up(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), output_folder(tmp_path / "out") as staging:
        write(staging, lib__so="1")
        (tmp_path / "out").write_text("somebody was quicker")
    assert tree(tmp_path) == {"out": "somebody was quicker"}
