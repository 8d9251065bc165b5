from __future__ import annotations

import numpy as np
import pytest

from bnncc.errors import UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node

THRESHOLDS = np.asarray([-0.5, 0.0, 0.75], np.float32)


def counted(test: str, thresholds: np.ndarray, axis: int, keepdims: int, *, exchanged: bool = False, broadcast: bool = False):
    operands = ["x" if broadcast else "u", "t"]
    nodes = [] if broadcast else [node("Unsqueeze", ["x", "a"], ["u"])]
    nodes += [node(test, operands[::-1] if exchanged else operands, ["c"]), node("Cast", ["c"], ["f"], to=1)]
    nodes += [node("ReduceSum", ["f", "a"], ["y"], keepdims=keepdims)]
    return import_onnx(make_model(nodes, (2, 3, 4), {"t": thresholds, "a": np.asarray([axis])}))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("test", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_a_sum_of_stacked_comparisons_is_one_of_single_ones(test: str, exchanged: bool, keepdims: int) -> None:
    imported = counted(test, THRESHOLDS, -1, keepdims, exchanged=exchanged)
    kinds = [n.op_type for n in imported.folded.graph.node]
    assert "ReduceSum" not in kinds and kinds.count(test) == 3
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thresholds_may_stand_on_any_axis_and_differ_from_channel_to_channel(axis: int) -> None:
    shape = [1, 1, 4] if axis < 2 else [1, 3, 1]
    shape.insert(axis, 5)
    thresholds = np.sort(np.random.default_rng(0).standard_normal(shape).astype(np.float32), axis)
    imported = counted("Greater", thresholds, axis, 0)
    assert "ReduceSum" not in [n.op_type for n in imported.folded.graph.node]
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []


def test_the_axis_may_come_by_broadcasting_alone() -> None:
    imported = counted("Greater", np.broadcast_to(THRESHOLDS[:, None, None, None], (3, 2, 3, 4)), 0, 0, broadcast=True)
    assert "ReduceSum" not in [n.op_type for n in imported.folded.graph.node]
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []


def test_a_count_along_an_axis_of_the_tensor_itself_stays() -> None:
    nodes = [node("Greater", ["x", "t"], ["c"]), node("Cast", ["c"], ["f"], to=1), node("ReduceSum", ["f", "a"], ["y"])]
    imported = import_onnx(make_model(nodes, (2, 3, 4), {"t": THRESHOLDS[:, None], "a": np.asarray([1])}))
    assert [n.op_type for n in imported.folded.graph.node] == ["Greater", "Cast", "ReduceSum"]


@pytest.mark.parametrize("name", ["PartitionedCall", "StatefulPartitionedCall"])
def test_a_tensorflow_function_left_by_tf2onnx_is_told_from_an_unknown_operator(name: str) -> None:
    with pytest.raises(UnsupportedOperator, match=r"'call'.*TensorFlow function.*groups=.*a split, one convolution a group"):
        import_onnx(make_model([node(name, ["x"], ["y"], "call")]))
