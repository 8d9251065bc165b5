"""The reference gives the tensors of the model as it is, and of a model whose zeros were decided."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from bnncc.errors import ModelFormatError
from bnncc.report.reference import Reference, decide_zeros

from .network import as_model

NODES = [helper.make_node("Sign", ["x"], ["s"]), helper.make_node("Mul", ["s", "two"], ["d"]), helper.make_node("Add", ["d", "two"], ["y"])]
STORED = [numpy_helper.from_array(np.float32(2), "two")]
X = np.float32([[-3, 0, 5]])


def model():
    return as_model(NODES, STORED, (1, 3), (1, 3))


def test_tensors_in_between_inputs_and_constants_are_given_by_name():
    found = Reference(model(), ["d", "y", "x", "two", "d"]).run({"x": X})
    assert {name: array.tolist() for name, array in found.items()} == {"d": [[-2, 0, 2]], "y": [[0, 2, 4]], "x": X.tolist(), "two": 2.0}


def test_inputs_alone_need_no_run():
    assert Reference(model(), ["x"]).run({"x": X})["x"] is X


def test_a_decided_zero_reaches_all_that_read_it():
    decided = decide_zeros(model(), {"d": (0.0, -2.0)})
    found = Reference(decided, ["s", "d", "y"]).run({"x": X})
    assert [found[name].tolist() for name in ("s", "d", "y")] == [[[-1, 0, 1]], [[-2, -2, 2]], [[0, 0, 4]]]


def test_a_model_that_onnxruntime_does_not_take_is_an_error():
    with pytest.raises(ModelFormatError, match="onnxruntime"):
        Reference(as_model([helper.make_node("NoSuchOperator", ["x"], ["y"])], [], (1, 3), (1, 3)), ["y"])


def test_what_onnxruntime_refuses_only_when_it_runs_is_the_same_error():
    """Its convolution takes no dilation beside auto_pad."""
    weight = numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "w")
    conv = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", dilations=[2])
    reference = Reference(as_model([conv], [weight], (1, 1, 9), (1, 1, 9)), ["y"])
    with pytest.raises(ModelFormatError, match="onnxruntime.*Dilation"):
        reference.run({"x": np.ones((1, 1, 9), np.float32)})
