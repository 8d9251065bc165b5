from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from bnncc.errors import ModelFormatError, UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, run_onnx, tensor_differences
from .models import make_model, node, value

RELU = make_model([node("Relu", ["x"], ["y"])])


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("as_text", [True, False])
def test_a_path_is_taken_as_a_string_and_as_a_path(tmp_path: Path, as_text: bool) -> None:
    path = _file(tmp_path, RELU.SerializeToString())
    assert import_onnx(str(path) if as_text else path).outputs[0].name == "y"


def test_a_model_in_memory_is_not_changed() -> None:
    model = make_model([node("Identity", ["x"], ["a"]), node("Relu", ["a"], ["y"])], (1, 4))
    before = model.SerializeToString()
    import_onnx(model, {"x": (2, 4)})
    assert model.SerializeToString() == before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="absent.onnx cannot be read: No such file"):
        import_onnx(tmp_path / "absent.onnx")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="cannot be read: Is a directory"):
        import_onnx(tmp_path)


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="empty file"):
        import_onnx(_file(tmp_path, b""))


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"PK\x03\x04" + bytes(60),
        b'{"format": "json"}',
        b"import torch\n",
        bytes(1000),
        b"\xff" * 64,
        b"\n\n",
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ModelFormatError, match="no ONNX|version"):
        import_onnx(_file(tmp_path, data))


def test_a_large_file_pointer_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="git lfs pull"):
        import_onnx(_file(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"))


def test_a_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    weights = {"w": np.ones((4, 4), np.float32)}
    data = make_model([node("MatMul", ["x", "w"], ["a"], "mm"), node("Relu", ["a"], ["y"])], weights=weights).SerializeToString()
    for length in range(1, len(data)):
        with pytest.raises(ModelFormatError):
            import_onnx(_file(tmp_path, data[:length]))


@pytest.mark.parametrize("ir", range(3, 11))
def test_format_versions_3_to_10_are_taken_without_a_word(ir: int) -> None:
    model = make_model(
        [node("Add", ["x", "w"], ["y"])], [value("x", (1, 4)), value("w", (4,))], {"w": np.ones(4, np.float32)}, opset=9, ir=ir
    )
    imported = import_onnx(model)
    assert imported.warnings == []
    assert [spec.name for spec in imported.inputs] == ["x"]
    assert run_onnx(imported.reference, {"x": np.zeros((1, 4), np.float32)})[0].tolist() == [[1, 1, 1, 1]]


def test_a_newer_format_version_is_taken_with_a_warning() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], ir=12)
    imported = import_onnx(model)
    assert "IR version 12" in imported.warnings[0]
    assert run_onnx(imported.reference, random_feeds(imported))


def test_an_ancient_format_version_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="IR version 2; versions 3 to 10"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], ir=2))


def test_a_model_without_operator_set_is_refused() -> None:
    model = make_model([node("Relu", ["x"], ["y"])])
    del model.opset_import[:]
    with pytest.raises(ModelFormatError, match="opset_import"):
        import_onnx(model)


def test_an_operator_set_from_the_future_is_refused() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], opset=500)
    with pytest.raises(ModelFormatError, match="version 500 of the standard operator set"):
        import_onnx(model)


def test_two_versions_of_the_operator_set_are_refused() -> None:
    model = make_model([node("Relu", ["x"], ["y"])])
    model.opset_import.append(helper.make_opsetid("ai.onnx", 11))
    with pytest.raises(ModelFormatError, match="11, 17"):
        import_onnx(model)


@pytest.mark.parametrize("opset", [8, 22])
def test_an_untested_operator_set_is_taken_with_a_warning(opset: int) -> None:
    assert f"opset {opset}; opsets 9 to 21 are tested" in import_onnx(make_model([node("Relu", ["x"], ["y"])], opset=opset)).warnings[0]


def _with_function(body: list[onnx.NodeProto]) -> onnx.ModelProto:
    model = make_model([node("Twice", ["x"], ["a"], domain="local"), node("Relu", ["a"], ["y"])], domains=("local",))
    model.functions.append(helper.make_function("local", "Twice", ["v"], ["w"], body, [helper.make_opsetid("", 17)]))
    return model


def test_local_functions_are_inlined() -> None:
    imported = import_onnx(_with_function([node("Add", ["v", "v"], ["w"])]))
    assert tensor_differences(imported, random_feeds(imported)) == []
    assert [n.op_type for n in imported.reference.graph.node] == ["Add", "Relu"]


def test_a_function_that_calls_itself_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="local functions cannot be inlined"):
        import_onnx(_with_function([node("Twice", ["v"], ["w"], domain="local")]))


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    data = make_model([node("Relu", ["x"], ["abc"]), node("Neg", ["abc"], ["y"])]).SerializeToString()
    with pytest.raises(ModelFormatError, match=r"NodeProto.output holds b'\\xffbc', which is no text"):
        import_onnx(_file(tmp_path, data.replace(b"abc", b"\xffbc")))


def test_an_attribute_that_is_no_text_is_an_error_too() -> None:
    with pytest.raises(UnsupportedOperator, match="its auto_pad is"):
        import_onnx(make_model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], auto_pad=b"\xff\xfe")], (1, 1, 4, 4)))


def test_a_graph_without_a_name_is_fine() -> None:
    model = make_model([node("Relu", ["x"], ["y"])])
    model.graph.name = ""
    imported = import_onnx(model)
    assert tensor_differences(imported, random_feeds(imported)) == []
