"""Inputs of bytes: the graph says what a byte stands for, and what cannot take bytes is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnncc.errors import InputError
from bnncc.frontend import import_onnx
from bnncc.report.reference import Reference
from bnncc.spec import ByteInput


def model(*inputs: tuple[str, int]) -> onnx.ModelProto:
    """Return a model that adds up its inputs, and returns the first as well."""
    values = [helper.make_tensor_value_info(name, kind, [1, 4]) for name, kind in inputs]
    names = [name for name, _ in inputs]
    nodes = [helper.make_node("Sum", names, ["y"]), helper.make_node("Identity", [names[0]], ["z"])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("y", "z")]
    return helper.make_model(helper.make_graph(nodes, "g", values, outputs), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_a_byte_stands_for_scale_times_its_distance_from_zero():
    imported = import_onnx(model(("x", TensorProto.FLOAT)), byte_inputs={"": ByteInput(0.25, 127.5)})
    assert [(spec.name, spec.dtype) for spec in imported.inputs] == [("x", "uint8")]
    x = np.array([[0, 1, 127, 255]], np.uint8)
    found = Reference(imported.reference, ["y", "z"]).run({"x": x})
    np.testing.assert_array_equal(found["y"], [[-31.875, -31.625, -0.125, 31.875]])
    np.testing.assert_array_equal(found["z"], found["y"])


def test_one_of_several_inputs_takes_bytes_by_its_name():
    imported = import_onnx(model(("x", TensorProto.FLOAT), ("u", TensorProto.FLOAT)), byte_inputs={"u": ByteInput()})
    assert [(spec.name, spec.dtype) for spec in imported.inputs] == [("x", "float32"), ("u", "uint8")]


@pytest.mark.parametrize(
    ("inputs", "asked", "told"),
    [
        ((("x", TensorProto.FLOAT), ("u", TensorProto.FLOAT)), "", "the model has 2 inputs, so --input-type has to name one"),
        ((("x", TensorProto.FLOAT),), "image", "there is no input 'image'. Inputs: 'x'"),
        ((("x", TensorProto.INT64),), "x", "The input 'x' is int64; only float32"),
    ],
)
def test_what_cannot_take_bytes_is_told(inputs, asked, told):
    with pytest.raises(InputError, match=told):
        import_onnx(model(*inputs), byte_inputs={asked: ByteInput()})


@pytest.mark.parametrize(("scale", "zero"), [(0.0, 0.0), (np.inf, 0.0), (1.0, np.nan), (1e-60, 0.0)])
def test_a_scale_that_says_nothing_is_refused(scale, zero):
    with pytest.raises(InputError, match="of an input of bytes is"):
        ByteInput(scale, zero)
