from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnncc.errors import ModelFormatError, UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, run_onnx, tensor_differences
from .models import make_model, node, value

F = np.float32


def _ops(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def test_weights_by_expression_are_folded_whatever_their_size() -> None:
    weight = np.random.default_rng(0).standard_normal((300, 300)).astype(F)
    nodes = [
        node("Abs", ["w"], ["a"]),
        node("ReduceMean", ["a"], ["m"], axes=[0], keepdims=1),
        node("Sign", ["w"], ["s"]),
        node("Mul", ["m", "s"], ["b"]),
        node("MatMul", ["x", "b"], ["y"]),
    ]
    imported = import_onnx(make_model(nodes, (1, 300), {"w": weight}))
    assert _ops(imported.folded) == ["MatMul"]
    computed = run_onnx(imported.reference, random_feeds(imported), ["b"])[0]
    assert np.array_equal(numpy_helper.to_array(imported.folded.graph.initializer[0]), computed)


def test_the_batch_through_shape_arithmetic_is_folded() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axis"], ["u"]),
        node("Concat", ["u", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    weights = {"zero": np.asarray(0), "axis": np.asarray([0]), "rest": np.asarray([-1])}
    imported = import_onnx(make_model(nodes, ("N", 2, 3), weights), {"x": (5, 2, 3)})
    assert _ops(imported.folded) == ["Reshape"]
    assert imported.outputs[0].shape == (5, 6)


def test_a_weight_cast_to_the_type_of_a_feature_map_is_folded() -> None:
    """As dynamo spells ones_like: the element type alone is taken from the feature map."""
    nodes = [
        node("CastLike", ["one", "x"], ["c"]),
        node("Shape", ["x"], ["s"]),
        node("Expand", ["c", "s"], ["ones"]),
        node("Greater", ["x", "zero"], ["p"]),
        node("Neg", ["ones"], ["n"]),
        node("Where", ["p", "ones", "n"], ["y"]),
    ]
    imported = import_onnx(make_model(nodes, (2, 3), {"one": np.asarray(1, np.int64), "zero": np.asarray(0, F)}))
    assert _ops(imported.folded) == ["Greater", "Where"]
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []


def test_shape_arithmetic_that_needs_values_round_after_round_is_folded() -> None:
    # Each Reshape's target hangs on the shape of the one before, by way of arithmetic that shape inference does not follow.
    nodes, current = [], "x"
    for i in range(4):
        nodes += [
            node("Shape", [current], [f"s{i}"]),
            node("Cast", [f"s{i}"], [f"f{i}"], to=1),
            node("Exp", [f"f{i}"], [f"e{i}"]),
            node("Log", [f"e{i}"], [f"l{i}"]),
            node("Round", [f"l{i}"], [f"r{i}"]),
            node("Cast", [f"r{i}"], [f"c{i}"], to=7),
            node("Gather", [f"c{i}", "swap"], [f"t{i}"]),
            node("Reshape", [current, f"t{i}"], [f"y{i}"]),
            node("Neg", [f"y{i}"], [f"z{i}"]),
        ]
        current = f"z{i}"
    imported = import_onnx(make_model(nodes, (2, 3, 4), {"swap": np.asarray([2, 0, 1])}, outputs=(current,)))
    assert _ops(imported.folded) == ["Reshape", "Neg"] * 4
    assert imported.outputs[0].shape == (4, 2, 3)
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_shape_with_bounds_and_size_are_folded() -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=1, end=-1),
        node("Size", ["x"], ["n"]),
        node("Unsqueeze", ["n", "a"], ["u"]),
        node("Concat", ["s", "u"], ["c"], axis=0),
        node("Cast", ["c"], ["f"], to=1),
        node("ReduceSum", ["f"], ["t"], keepdims=0),
        node("Mul", ["x", "t"], ["y"]),
    ]
    imported = import_onnx(make_model(nodes, (2, 3, 4), {"a": np.asarray([0])}))
    assert _ops(imported.folded) == ["Mul"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_a_pad_vector_computed_by_a_subgraph_is_folded() -> None:
    nodes = [
        node("ConstantOfShape", ["four"], ["zeros"], value=numpy_helper.from_array(np.asarray([0]))),
        node("Concat", ["front", "zeros"], ["all"], axis=0),
        node("Reshape", ["all", "pairs"], ["r"]),
        node("Slice", ["r", "minus1", "least", "axis0", "minus1"], ["b"]),
        node("Transpose", ["b"], ["t"], perm=[1, 0]),
        node("Reshape", ["t", "flat"], ["p"]),
        node("Cast", ["p"], ["pads"], to=7),
        node("Pad", ["x", "pads"], ["y"], mode="edge"),
    ]
    weights = {
        "four": np.asarray([4]),
        "front": np.asarray([1, 2, 3, 1]),
        "pairs": np.asarray([-1, 2]),
        "minus1": np.asarray([-1]),
        "least": np.asarray([-(2**63) + 1]),
        "axis0": np.asarray([0]),
        "flat": np.asarray([-1]),
    }
    imported = import_onnx(make_model(nodes, (1, 2, 4, 4), weights))
    assert _ops(imported.folded) == ["Pad"]
    assert tensor_differences(imported, random_feeds(imported), tolerance=0) == []


def test_several_outputs_of_one_constant_node_are_folded() -> None:
    nodes = [node("Split", ["w", "sizes"], ["a", "b"], axis=0), node("Add", ["x", "a"], ["s"]), node("Mul", ["s", "b"], ["y"])]
    imported = import_onnx(make_model(nodes, weights={"w": np.arange(8, dtype=F), "sizes": np.asarray([4, 4])}))
    assert _ops(imported.folded) == ["Add", "Mul"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_an_output_that_does_not_depend_on_the_input_is_a_constant() -> None:
    imported = import_onnx(
        make_model([node("Neg", ["w"], ["k"]), node("Relu", ["x"], ["y"])], weights={"w": np.arange(3, dtype=F)}, outputs=("y", "k"))
    )
    assert tensor_differences(imported, random_feeds(imported)) == []
    assert [spec.shape for spec in imported.outputs] == [(1, 4), (3,)]


def test_dead_nodes_and_weights_go() -> None:
    imported = import_onnx(
        make_model(
            [node("Relu", ["x"], ["y"]), node("Mul", ["x", "w"], ["dead"]), node("Sign", ["dead"], ["deader"])],
            weights={"w": np.ones(4, F)},
        )
    )
    assert _ops(imported.folded) == ["Relu"] and not imported.folded.graph.initializer


def test_random_numbers_are_not_folded() -> None:
    nodes = [node("RandomNormalLike", ["w"], ["r"], "noise"), node("Add", ["x", "r"], ["y"])]
    with pytest.raises(UnsupportedOperator, match="RandomNormalLike node 'noise'"):
        import_onnx(make_model(nodes, weights={"w": np.ones(4, F)}))


def test_random_numbers_without_an_input_are_not_folded() -> None:
    with pytest.raises(UnsupportedOperator, match="RandomNormal node 'noise'"):
        import_onnx(make_model([node("RandomNormal", [], ["r"], "noise", shape=[1, 4]), node("Add", ["x", "r"], ["y"])]))


def test_a_constant_part_that_fails_is_an_error_with_the_reason() -> None:
    nodes = [node("Gather", ["w", "i"], ["g"], "pick"), node("Add", ["x", "g"], ["y"])]
    with pytest.raises(ModelFormatError, match="constant part of the model .*Gather node 'pick'.* cannot be computed: .*indices"):
        import_onnx(make_model(nodes, weights={"w": np.ones((4, 4), F), "i": np.asarray(9)}))


def _if(condition: np.ndarray | None) -> onnx.ModelProto:
    """A model with an If whose branches read the outer x; its condition is constant or depends on x."""
    then = helper.make_graph([node("Constant", [], ["two"], value_float=2.0), node("Mul", ["x", "two"], ["r"])], "then", [], [value("r")])
    other = helper.make_graph([node("Add", ["x", "one"], ["r"])], "else", [], [value("r")], [numpy_helper.from_array(np.ones(1, F), "one")])
    nodes = [node("If", ["c"], ["z"], "choice", then_branch=then, else_branch=other), node("Neg", ["z"], ["y"])]
    if condition is None:
        nodes = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Cast", ["m"], ["c"], to=9), *nodes]
    return make_model(nodes, weights={} if condition is None else {"c": condition})


@pytest.mark.parametrize("condition, operators", [(True, ["Mul", "Neg"]), (False, ["Add", "Neg"])])
def test_the_branch_taken_by_a_constant_condition_is_inlined(condition: bool, operators: list[str]) -> None:
    imported = import_onnx(_if(np.asarray(condition)))
    assert _ops(imported.folded) == operators
    assert [info.name for info in imported.nodes.values()] == [f"choice/{operators[0]}", "Neg_y"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_a_condition_on_the_shape_is_decided() -> None:
    then = helper.make_graph([node("Squeeze", ["x", "axis"], ["r"])], "then", [], [value("r")])
    other = helper.make_graph([node("Identity", ["x"], ["r"])], "else", [], [value("r")])
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["d"]),
        node("Equal", ["d", "one"], ["c"]),
        node("If", ["c"], ["z"], then_branch=then, else_branch=other),
        node("Neg", ["z"], ["y"]),
    ]
    weights = {"one": np.asarray(1), "axis": np.asarray([1])}
    imported = import_onnx(make_model(nodes, ("N", 1, 5), weights), {"x": (3, 1, 5)})
    assert _ops(imported.folded) == ["Squeeze", "Neg"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_two_decided_branches_do_not_share_names() -> None:
    model = _if(np.asarray(True))
    second = onnx.NodeProto()
    second.CopyFrom(model.graph.node[0])
    second.name, second.output[0] = "again", "z2"
    nodes = [model.graph.node[0], second, node("Add", ["z", "z2"], ["y"])]
    imported = import_onnx(make_model(nodes, weights={"c": np.asarray(True)}))
    assert _ops(imported.folded) == ["Mul", "Mul", "Add"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_a_branch_within_a_branch_is_inlined() -> None:
    inner_then = helper.make_graph([node("Neg", ["x"], ["r"])], "a", [], [value("r")])
    inner_else = helper.make_graph([node("Abs", ["x"], ["r"])], "b", [], [value("r")])
    then = helper.make_graph(
        [node("If", ["no"], ["q"], then_branch=inner_then, else_branch=inner_else), node("Mul", ["q", "q"], ["r"])],
        "then",
        [],
        [value("r")],
    )
    other = helper.make_graph([node("Identity", ["x"], ["r"])], "else", [], [value("r")])
    nodes = [node("If", ["yes"], ["z"], then_branch=then, else_branch=other), node("Neg", ["z"], ["y"])]
    imported = import_onnx(make_model(nodes, weights={"yes": np.asarray(True), "no": np.asarray(False)}))
    assert _ops(imported.folded) == ["Abs", "Mul", "Neg"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_a_condition_on_the_input_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="If node 'choice' .* control flow that depends on the model's input"):
        import_onnx(_if(None))


def test_a_loop_over_constants_is_folded_and_one_over_the_input_refused() -> None:
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Add", ["v", "v"], ["u"])],
        "body",
        [value("i", (), 7), value("c", (), 9), value("v")],
        [value("d", (), 9), value("u")],
    )
    weights = {"n": np.asarray(3), "w": np.ones(4, F)}
    imported = import_onnx(make_model([node("Loop", ["n", "", "w"], ["z"], body=body), node("Add", ["x", "z"], ["y"])], weights=weights))
    assert _ops(imported.folded) == ["Add"]
    assert tensor_differences(imported, random_feeds(imported)) == []
    with pytest.raises(UnsupportedOperator, match="Loop node 'again'"):
        import_onnx(make_model([node("Loop", ["n", "", "x"], ["z"], "again", body=body), node("Neg", ["z"], ["y"])], weights=weights))


def test_a_subgraph_that_reads_what_nothing_defines_is_refused() -> None:
    model = _if(np.asarray(True))
    branch = next(a.g for a in model.graph.node[0].attribute if a.name == "else_branch")
    branch.node[0].input[0] = "ghost"
    with pytest.raises(ModelFormatError, match="reads the tensor 'ghost'"):
        import_onnx(model)


def test_an_if_without_one_of_its_branches_is_refused() -> None:
    model = _if(np.asarray(True))
    kept = [a for a in model.graph.node[0].attribute if a.name == "then_branch"]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend(kept)
    with pytest.raises(ModelFormatError, match="If node 'choice' .*breaks the rules of its operator.*else_branch"):
        import_onnx(model)


def test_constant_nodes_of_every_kind_are_folded() -> None:
    nodes = [
        node("Constant", [], ["i"], value_int=1),
        node("Constant", [], ["is"], value_ints=[1, 4]),
        node("Constant", [], ["f"], value_float=2.5),
        node("Constant", [], ["fs"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        node("Add", ["f", "fs"], ["c"]),
        node("Mul", ["x", "c"], ["m"]),
        node("Reshape", ["m", "is"], ["r"]),
        node("Gather", ["r", "i"], ["y"], axis=1),
    ]
    imported = import_onnx(make_model(nodes))
    assert _ops(imported.folded) == ["Mul", "Gather"]
    assert tensor_differences(imported, random_feeds(imported)) == []
