"""Reading ``--input`` and writing ``--output``."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bnncc.cli.arrays import read_array, read_inputs, write_outputs
from bnncc.errors import InputError, OutputError

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def saved(tmp_path):
    np.save(tmp_path / "x.npy", ARRAY)
    return tmp_path / "x.npy"


@pytest.mark.parametrize("array", [ARRAY, np.asfortranarray(ARRAY), np.float16(3), np.zeros((0, 3), "u1")])
def test_what_numpy_saved_is_read(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    read = read_array(tmp_path / "x.npy")
    assert read.dtype == array.dtype and np.array_equal(read, array)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="none.npy cannot be read: No such file"):
        read_array(tmp_path / "none.npy")


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_array(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"1.0 2.0\n"], ids=["empty", "npz", "text"])
def test_another_kind_of_file_is_an_error(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match="not a .npy file"):
        read_array(tmp_path / "x.npy")


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, None]), allow_pickle=True)
    with pytest.raises(InputError, match="pickled Python objects"):
        read_array(tmp_path / "x.npy")


@pytest.mark.parametrize("length", [6, 8, 40, 130, 140])
def test_a_truncated_file_is_an_error(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(InputError, match="damaged .npy file"):
        read_array(saved)


def test_a_header_that_is_no_header_is_an_error(saved):
    saved.write_bytes(saved.read_bytes().replace(b"'descr'", b"'desc' "))
    with pytest.raises(InputError, match="damaged .npy file"):
        read_array(saved)


def test_an_absurd_shape_in_the_header_is_an_error(saved):
    absurd = b"(9999999999999,), }"  # 36 TiB
    written = saved.read_bytes()
    assert b"(2, 3), }".ljust(len(absurd)) in written
    saved.write_bytes(written.replace(b"(2, 3), }".ljust(len(absurd)), absurd))
    with pytest.raises(InputError, match="damaged .npy file"):
        read_array(saved)


def test_one_file_without_a_name_is_the_only_input(saved):
    assert np.array_equal(read_inputs([str(saved)]), ARRAY)


def test_files_with_names_are_inputs_by_name(saved):
    inputs = read_inputs([f"a={saved}", f"b={saved}"])
    assert list(inputs) == ["a", "b"] and np.array_equal(inputs["b"], ARRAY)


def test_an_equals_sign_may_belong_to_the_path_or_to_the_name(tmp_path, saved):
    odd = saved.rename(tmp_path / "a=b.npy")
    assert np.array_equal(read_inputs([str(odd)]), ARRAY)
    plain = odd.rename(saved)
    assert list(read_inputs([f"a=b={plain}"])) == ["a=b"]


def test_several_files_without_names_are_an_error(saved):
    with pytest.raises(InputError, match="NAME=FILE.npy"):
        read_inputs([str(saved), str(saved)])


def test_an_input_given_twice_is_an_error(saved):
    with pytest.raises(InputError, match="'a' twice"):
        read_inputs([f"a={saved}", f"a={saved}"])


def test_one_output_is_written_as_npy(tmp_path):
    write_outputs(tmp_path / "y.npy", ARRAY)
    assert np.array_equal(np.load(tmp_path / "y.npy"), ARRAY)
    assert os.listdir(tmp_path) == ["y.npy"]


def test_several_outputs_are_written_as_npz(tmp_path):
    write_outputs(tmp_path / "y.npz", {"a": ARRAY, "b/c": ARRAY + 1})
    with np.load(tmp_path / "y.npz") as written:
        assert set(written) == {"a", "b/c"} and np.array_equal(written["b/c"], ARRAY + 1)


@pytest.mark.parametrize(
    ("name", "outputs", "wanted"), [("y.npz", ARRAY, "y.npy"), ("y.npy", {"a": ARRAY, "b": ARRAY}, "y.npz"), ("y", ARRAY, "y.npy")]
)
def test_an_ending_that_does_not_fit_is_an_error_and_nothing_is_written(tmp_path, name, outputs, wanted):
    with pytest.raises(OutputError, match=f"Write --output .*{wanted}"):
        write_outputs(tmp_path / name, outputs)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_outputs(tmp_path / "none" / "y.npy", ARRAY)


def test_a_failed_write_leaves_the_old_file_and_no_new_one(tmp_path):
    (tmp_path / "y.npy").mkdir()  # os.replace cannot put a file over a folder
    with pytest.raises(OutputError, match="cannot be written"):
        write_outputs(tmp_path / "y.npy", ARRAY)
    assert os.listdir(tmp_path) == ["y.npy"] and os.listdir(tmp_path / "y.npy") == []
