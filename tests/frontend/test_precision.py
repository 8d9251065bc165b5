from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from bnncc.errors import UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node, value

HALF, DOUBLE = TensorProto.FLOAT16, TensorProto.DOUBLE


def test_a_float16_model_becomes_float32_with_a_warning() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float16)
    half = numpy_helper.from_array(np.asarray(0.5, np.float16))
    nodes = [node("Constant", [], ["h"], value=half), node("MatMul", ["x", "w"], ["a"]), node("Mul", ["a", "h"], ["y"])]
    imported = import_onnx(make_model(nodes, [value("x", (2, 4), HALF)], {"w": weight}))
    assert "float16" in imported.warnings[0]
    assert [spec.dtype for spec in (*imported.inputs, *imported.outputs)] == ["float32", "float32"]
    assert tensor_differences(imported, random_feeds(imported)) == []
    held = numpy_helper.to_array(imported.folded.graph.initializer[0])
    assert held.dtype == np.float32 and np.array_equal(held, weight)


def test_casts_to_and_from_float16_go() -> None:
    nodes = [node("Cast", ["x"], ["h"], to=HALF), node("Mul", ["h", "w"], ["m"]), node("Cast", ["m"], ["y"], to=1)]
    imported = import_onnx(make_model(nodes, weights={"w": np.ones(4, np.float16)}))
    assert [n.op_type for n in imported.folded.graph.node] == ["Mul"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_a_float32_model_gets_no_warning() -> None:
    assert import_onnx(make_model([node("Relu", ["x"], ["y"])])).warnings == []


def test_float64_is_fine_among_constants() -> None:
    nodes = [node("Mul", ["w", "w"], ["d"]), node("Cast", ["d"], ["s"], to=1), node("Add", ["x", "s"], ["y"])]
    imported = import_onnx(make_model(nodes, weights={"w": np.asarray([0.1, 0.2, 0.3, 0.4])}))
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []


@pytest.mark.parametrize(
    "nodes, inputs",
    [
        ([node("Relu", ["x"], ["y"], "act")], [value("x", (1, 4), DOUBLE)]),
        ([node("Cast", ["x"], ["d"], "widen", to=DOUBLE), node("Relu", ["d"], ["y"])], (1, 4)),
    ],
)
def test_float64_at_run_time_is_refused(nodes: list, inputs: object) -> None:
    with pytest.raises(UnsupportedOperator, match="float64.*Export the model in float32"):
        import_onnx(make_model(nodes, inputs))
