from __future__ import annotations

import numpy as np
import pytest

from bnncc.errors import UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node

SHAPE = (1, 3, 4, 5)
WEIGHTS = {
    "same": np.asarray(SHAPE),
    "zeros8": np.zeros(8, np.int64),
    "ones4": np.ones(4, np.int64),
    "start": np.asarray([0]),
    "end": np.asarray([9]),
    "axis2": np.asarray([2]),
    "back": np.asarray([-1]),
    "least": np.asarray([-(2**63) + 1]),
    "ratio": np.float32(0.5),
    "yes": np.asarray(True),
    "no": np.asarray(False),
    "some8": np.asarray([0, 0, 1, 0, 0, 0, 0, 0]),
}


def _left(nodes: list, outputs: tuple[str, ...] = ("y",)) -> list[str]:
    read = {name for n in nodes for name in n.input}
    imported = import_onnx(make_model(nodes, SHAPE, {k: v for k, v in WEIGHTS.items() if k in read}, outputs))
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []
    assert [spec.name for spec in imported.outputs] == list(outputs)
    return [n.op_type for n in imported.folded.graph.node]


@pytest.mark.parametrize(
    "nothing",
    [
        node("Identity", ["a"], ["b"]),
        node("Dropout", ["a"], ["b"]),
        node("Dropout", ["a", "ratio", "no"], ["b"]),
        node("Cast", ["a"], ["b"], to=1),
        node("Reshape", ["a", "same"], ["b"]),
        node("Expand", ["a", "same"], ["b"]),
        node("Tile", ["a", "ones4"], ["b"]),
        node("Pad", ["a", "zeros8"], ["b"]),
        node("Transpose", ["a"], ["b"], perm=[0, 1, 2, 3]),
        node("Concat", ["a"], ["b"], axis=1),
        node("Sum", ["a"], ["b"]),
        node("Max", ["a"], ["b"]),
        node("Slice", ["a", "start", "end", "axis2"], ["b"]),
        node("CastLike", ["a", "ratio"], ["b"]),
    ],
    ids=lambda n: f"{n.op_type}{len(n.input)}",
)
@pytest.mark.parametrize("place", ["middle", "end", "start"])
def test_a_node_that_does_nothing_goes(nothing: object, place: str) -> None:
    if place == "middle":
        assert _left([node("Neg", ["x"], ["a"]), nothing, node("Abs", ["b"], ["y"])]) == ["Neg", "Abs"]
        return
    moved = type(nothing)()
    moved.CopyFrom(nothing)
    if place == "end":
        moved.output[0] = "y"
        assert _left([node("Neg", ["x"], ["a"]), moved]) == ["Neg"]
    else:
        moved.input[0] = "x"
        assert _left([moved, node("Abs", ["b"], ["y"])]) == ["Abs"]


@pytest.mark.parametrize(
    "something",
    [
        node("Transpose", ["a"], ["b"]),
        node("Slice", ["a", "back", "least", "axis2", "back"], ["b"]),
        node("Pad", ["a", "some8"], ["b"]),
        node("Cast", ["a"], ["b"], to=6),
        node("Transpose", ["a"], ["b"], perm=[0, 1, 3, 2]),
    ],
    ids=lambda n: n.op_type,
)
def test_a_node_that_does_something_stays(something: object) -> None:
    assert _left([node("Neg", ["x"], ["a"]), something, node("Neg", ["b"], ["y"])]) == ["Neg", something.op_type, "Neg"]


def test_chains_of_nothing_go() -> None:
    chain = [node("Identity", ["x" if i == 0 else f"a{i - 1}"], [f"a{i}"]) for i in range(5)]
    assert _left([*chain, node("Abs", ["a4"], ["b"]), node("Identity", ["b"], ["c"]), node("Identity", ["c"], ["y"])]) == ["Abs"]


def test_a_tensor_that_is_an_output_twice_over_keeps_both_names() -> None:
    assert _left([node("Abs", ["x"], ["y"]), node("Identity", ["y"], ["z"])], ("y", "z")) == ["Abs", "Identity"]


def test_a_tensor_read_elsewhere_may_be_renamed_to_an_output() -> None:
    assert _left([node("Abs", ["x"], ["a"]), node("Identity", ["a"], ["y"]), node("Neg", ["a"], ["z"])], ("y", "z")) == ["Abs", "Neg"]


def test_a_model_that_hands_its_input_through_works() -> None:
    assert _left([node("Identity", ["x"], ["y"])]) == ["Identity"]


def test_two_outputs_of_one_dropout_input_work() -> None:
    assert _left([node("Identity", ["x"], ["a"]), node("Abs", ["a"], ["y"]), node("Identity", ["a"], ["z"])], ("y", "z")) == [
        "Abs",
        "Identity",
    ]


def test_a_dropout_that_trains_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="Dropout node 'drop' .*training_mode is true"):
        _left([node("Dropout", ["x", "ratio", "yes"], ["y"], "drop")])


def test_a_dropout_whose_mask_is_used_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="Dropout node 'drop' .*2 of its outputs are used, 1 are supported"):
        _left([node("Dropout", ["x"], ["y", "m"], "drop"), node("Cast", ["m"], ["z"], to=1)], ("y", "z"))


def test_a_pad_by_nothing_of_an_old_opset_goes() -> None:
    imported = import_onnx(make_model([node("Neg", ["x"], ["a"]), node("Pad", ["a"], ["y"], pads=[0] * 8)], SHAPE, opset=10))
    assert [n.op_type for n in imported.folded.graph.node] == ["Neg"]


def test_a_dropout_whose_mask_is_left_out_goes() -> None:
    assert _left([node("Dropout", ["x"], ["a", ""]), node("Neg", ["a"], ["y"])]) == ["Neg"]


def test_what_only_the_converter_knows_to_do_nothing_makes_no_binding() -> None:
    imported = import_onnx(make_model([node("Neg", ["x"], ["a"]), node("Clip", ["a"], ["b"]), node("Abs", ["b"], ["y"])], SHAPE))
    assert [b.value.op.name for b in imported.mod["main"].body.blocks[0].bindings] == ["relax.negative", "relax.abs"]
    assert tensor_differences(imported, random_feeds(imported)) == []
