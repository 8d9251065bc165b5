from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bnncc.errors import ModelFormatError
from bnncc.frontend import import_onnx

from .comparing import run_onnx
from .models import make_model, node

WEIGHT = np.arange(4096, dtype=np.float32).reshape(4, 1024)


def _save(folder: Path, location: str = "w.bin", offset: int | str = 0, length: int | str | None = None) -> Path:
    """Write a model whose weight is said to be at ``location``."""
    model = make_model([node("MatMul", ["x", "w"], ["y"])], weights={"w": WEIGHT})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, entry in (("location", location), ("offset", str(offset)), ("length", str(WEIGHT.nbytes if length is None else length))):
        tensor.external_data.add(key=key, value=entry)
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"abcd" + WEIGHT.tobytes())
    imported = import_onnx(_save(tmp_path, offset=4))
    assert np.array_equal(run_onnx(imported.reference, {"x": np.eye(4, dtype=np.float32)[:1]})[0], WEIGHT[:1])


def test_weights_in_a_folder_below_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(WEIGHT.tobytes())
    assert import_onnx(_save(tmp_path, "data/w.bin")).inputs[0].shape == (1, 4)


def test_what_onnx_itself_saves_is_read(tmp_path: Path) -> None:
    model = make_model([node("MatMul", ["x", "w"], ["y"])], weights={"w": WEIGHT})
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert (tmp_path / "weights").exists()
    assert import_onnx(tmp_path / "m.onnx").outputs[0].shape == (1, 1024)


def test_a_constant_node_with_external_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    tensor = onnx.load(_save(tmp_path), load_external_data=False).graph.initializer[0]
    model = make_model([node("Constant", [], ["w"], value=tensor), node("MatMul", ["x", "w"], ["y"])])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert import_onnx(tmp_path / "m.onnx").outputs[0].shape == (1, 1024)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="'w' is stored in the external file 'w.bin', which cannot be read .*: No such file"):
        import_onnx(_save(tmp_path))


@pytest.mark.parametrize("outside", ["../w.bin", "sub/../../w.bin", "..\\w.bin", "C:\\w.bin", "\\w.bin", "w\0.bin"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, outside: str) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    with pytest.raises(ModelFormatError, match="outside of the model's folder"):
        import_onnx(_save(tmp_path / "model", outside))


def test_an_absolute_path_is_refused_even_into_the_folder(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    with pytest.raises(ModelFormatError, match="outside of the model's folder"):
        import_onnx(_save(tmp_path, str(tmp_path / "w.bin")))


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    path = _save(tmp_path / "model")
    (tmp_path / "model" / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelFormatError, match="outside of the model's folder"):
        import_onnx(path)


def test_a_linked_folder_that_leaves_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "w.bin").write_bytes(WEIGHT.tobytes())
    path = _save(tmp_path / "model", "link/w.bin")
    (tmp_path / "model" / "link").symlink_to(tmp_path / "other")
    with pytest.raises(ModelFormatError, match="outside of the model's folder"):
        import_onnx(path)


def test_a_link_inside_of_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "w.bin").symlink_to("real.bin")
    assert import_onnx(_save(tmp_path)).outputs[0].shape == (1, 1024)


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes()[:-1])
    with pytest.raises(ModelFormatError, match="bytes 0 to 16384 .* has only 16383 bytes"):
        import_onnx(_save(tmp_path))


@pytest.mark.parametrize("offset", [-1, 10**12])
def test_an_offset_outside_of_the_file_is_refused(tmp_path: Path, offset: int) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    with pytest.raises(ModelFormatError, match="truncated or belongs to another model"):
        import_onnx(_save(tmp_path, offset=offset))


def test_a_length_that_does_not_fit_the_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    with pytest.raises(ModelFormatError, match="takes 16384 bytes, but .* says 100"):
        import_onnx(_save(tmp_path, length=100))


def test_an_offset_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    with pytest.raises(ModelFormatError, match="damaged reference to its external file"):
        import_onnx(_save(tmp_path, offset="four"))


def test_a_reference_without_a_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="names no file"):
        import_onnx(_save(tmp_path, location=""))


def test_a_model_in_memory_must_hold_its_data(tmp_path: Path) -> None:
    model = onnx.load(_save(tmp_path), load_external_data=False)
    with pytest.raises(ModelFormatError, match="in memory, without a folder"):
        import_onnx(model)


def test_external_data_are_not_read_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "model")
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFormatError, match="cannot be read"):
        import_onnx(path)
