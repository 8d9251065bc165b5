from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnncc.errors import ModelFormatError, UnsupportedOperator
from bnncc.frontend import import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node, value

ONE = {"w": np.ones(4, np.float32)}


def test_nodes_out_of_order_are_sorted() -> None:
    imported = import_onnx(make_model([node("Add", ["b", "a"], ["y"]), node("Neg", ["a"], ["b"]), node("Abs", ["x"], ["a"])]))
    assert [n.op_type for n in imported.reference.graph.node] == ["Abs", "Neg", "Add"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_sorted_nodes_keep_their_order() -> None:
    order = ["Neg", "Abs", "Sign", "Sum"]
    model = make_model(
        [node("Neg", ["x"], ["c"]), node("Abs", ["x"], ["b"]), node("Sign", ["x"], ["a"]), node("Sum", ["a", "b", "c"], ["y"])]
    )
    assert [n.op_type for n in import_onnx(model).reference.graph.node] == order


def test_a_cycle_is_refused_and_named() -> None:
    with pytest.raises(ModelFormatError, match="cycle through Add node 'first' .*, Neg node 'second'"):
        import_onnx(make_model([node("Add", ["x", "b"], ["a"], "first"), node("Neg", ["a"], ["b"], "second"), node("Abs", ["b"], ["y"])]))


def test_a_node_that_reads_itself_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="cycle"):
        import_onnx(make_model([node("Add", ["x", "y"], ["y"])]))


@pytest.mark.parametrize(
    "nodes, name",
    [
        ([node("Relu", ["x"], ["y"], "one"), node("Neg", ["x"], ["y"], "two")], "y"),
        ([node("Relu", ["x"], ["x"], "one"), node("Neg", ["x"], ["y"])], "x"),
        ([node("Relu", ["x"], ["w"], "one"), node("Neg", ["w"], ["y"])], "w"),
        ([node("Split", ["x"], ["a", "a"], "one", axis=1), node("Neg", ["a"], ["y"])], "a"),
    ],
)
def test_a_name_defined_twice_is_refused(nodes: list[onnx.NodeProto], name: str) -> None:
    with pytest.raises(ModelFormatError, match=f"'{name}' is defined twice"):
        import_onnx(make_model(nodes, weights=ONE))


def test_two_weights_of_one_name_are_refused() -> None:
    model = make_model([node("Add", ["x", "w"], ["y"])], weights=ONE)
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(ModelFormatError, match="'w' is defined twice: by a weight and by a weight"):
        import_onnx(model)


def test_two_inputs_of_one_name_are_refused() -> None:
    with pytest.raises(ModelFormatError, match="'x' is defined twice"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], [value("x", (1,)), value("x", (1,))]))


def test_an_output_listed_twice_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="listed twice: y, y"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], outputs=("y", "y")))


def test_a_tensor_that_nothing_defines_is_named() -> None:
    with pytest.raises(ModelFormatError, match="Add node 'sum' .* reads the tensor 'ghost'"):
        import_onnx(make_model([node("Add", ["x", "ghost"], ["y"], "sum")]))


def test_an_output_that_nothing_computes_is_named() -> None:
    with pytest.raises(ModelFormatError, match="output 'ghost' of the model is computed by no node"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], outputs=("y", "ghost")))


def test_a_model_without_inputs_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="no input besides its weights"):
        import_onnx(make_model([node("Relu", ["w"], ["y"])], [value("w", (4,))], ONE))


def test_a_model_without_outputs_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="no output"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], outputs=()))


def test_an_input_without_a_name_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="no name"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], [value("x", (1,)), value("", (1,))]))


def test_an_input_without_a_type_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="input 'x' has no type"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], [onnx.ValueInfoProto(name="x")]))


def test_an_input_without_an_element_type_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="input 'x' has no element type"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], [value("x", (1, 4), TensorProto.UNDEFINED)]))


def test_an_output_without_a_type_is_fine() -> None:
    model = make_model([node("Relu", ["x"], ["y"])])
    model.graph.output[0].ClearField("type")
    assert import_onnx(model).outputs[0].shape == (1, 4)


@pytest.mark.parametrize(
    "described, kind",
    [
        (helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, (1,)), "sequence"),
        (helper.make_sparse_tensor_value_info("x", TensorProto.FLOAT, (1,)), "sparse tensor"),
    ],
)
def test_an_input_that_is_no_dense_tensor_is_refused(described: onnx.ValueInfoProto, kind: str) -> None:
    with pytest.raises(UnsupportedOperator, match=f"input 'x' is a {kind}"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], [described]))


@pytest.mark.parametrize(
    "dtype, name", [(TensorProto.STRING, "STRING"), (TensorProto.COMPLEX64, "COMPLEX64"), (TensorProto.BFLOAT16, "BFLOAT16")]
)
def test_an_input_of_another_element_type_is_refused(dtype: int, name: str) -> None:
    with pytest.raises(UnsupportedOperator, match=f"input 'x' has element type {name}"):
        import_onnx(make_model([node("Relu", ["x"], ["y"])], [value("x", (1, 4), dtype)]))


def test_string_weights_are_refused() -> None:
    model = make_model([node("Relu", ["x"], ["y"])])
    model.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [1], [b"cat"]))
    with pytest.raises(UnsupportedOperator, match="weight 'names' has element type STRING"):
        import_onnx(model)


@pytest.mark.parametrize(
    "attribute",
    [
        {"value_string": "cat"},
        {"sparse_value": helper.make_sparse_tensor(helper.make_tensor("v", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [0]), [4])},
    ],
)
def test_sparse_and_string_constants_are_refused(attribute: dict) -> None:
    with pytest.raises(UnsupportedOperator, match="sparse tensor or strings"):
        import_onnx(make_model([node("Constant", [], ["c"], "odd", **attribute), node("Add", ["x", "c"], ["y"])]))


def test_sparse_weights_are_refused() -> None:
    model = make_model([node("Add", ["x", "s"], ["y"])])
    values, indices = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]), helper.make_tensor("i", TensorProto.INT64, [1], [2])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(UnsupportedOperator, match="weight 's' is stored as a sparse tensor"):
        import_onnx(model)


def test_nodes_without_a_name_or_with_the_same_one_are_named_apart() -> None:
    imported = import_onnx(make_model([node("Neg", ["x"], ["a"], "n"), node("Abs", ["a"], ["b"], "n"), node("Relu", ["b"], ["y"])]))
    assert [info.name for info in imported.nodes.values()] == ["n", "n_1", "Relu_y"]
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_an_output_declared_with_another_type_is_refused() -> None:
    model = make_model([node("Cast", ["x"], ["y"], to=TensorProto.INT32)])
    model.graph.output[0].CopyFrom(value("y", (1, 4), TensorProto.FLOAT))
    with pytest.raises(ModelFormatError, match="element types in the model contradict each other"):
        import_onnx(model)
