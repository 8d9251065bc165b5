from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from bnncc.errors import ModelFormatError, ModelShapeError, ModelValueError
from bnncc.frontend import import_onnx

from .comparing import random_feeds, tensor_differences
from .models import make_model, node

ADD = [node("Add", ["x", "w"], ["y"])]


@pytest.mark.parametrize("bad, name", [(np.nan, "NaN"), (np.inf, "an infinity"), (-np.inf, "an infinity")])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_weight_that_is_not_finite_is_named_with_its_index(bad: float, name: str, dtype: type) -> None:
    weight = np.ones((3, 4), dtype)
    weight[2, 1] = bad
    with pytest.raises(ModelValueError, match=rf"weight 'w' holds {name}: 1 of 12 values are not finite, the first at index \(2, 1\)"):
        import_onnx(make_model(ADD, weights={"w": weight}))


def test_a_constant_node_that_is_not_finite_is_named() -> None:
    constant = node("Constant", [], ["w"], value=numpy_helper.from_array(np.asarray([1, np.nan, 2, 3], np.float32)))
    with pytest.raises(ModelValueError, match="weight 'w' holds NaN"):
        import_onnx(make_model([constant, *ADD]))


def test_an_infinite_bound_is_a_bound() -> None:
    imported = import_onnx(make_model([node("Clip", ["x", "", "w"], ["y"])], weights={"w": np.float32(np.inf)}))
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_a_bound_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ModelValueError, match="weight 'w' holds NaN"):
        import_onnx(make_model([node("Clip", ["x", "", "w"], ["y"])], weights={"w": np.float32(np.nan)}))


def test_an_infinite_scalar_that_is_multiplied_is_refused() -> None:
    with pytest.raises(ModelValueError, match="weight 'w' holds an infinity"):
        import_onnx(make_model([node("Mul", ["x", "w"], ["y"])], weights={"w": np.float32(np.inf)}))


def test_a_weight_that_becomes_infinite_by_folding_is_named_with_the_node_that_computes_it() -> None:
    nodes = [node("Reciprocal", ["w"], ["r"], "inverse"), node("Mul", ["x", "r"], ["y"])]
    with pytest.raises(ModelValueError, match="weight 'r', computed by Reciprocal node 'inverse' .* holds an infinity"):
        import_onnx(make_model(nodes, weights={"w": np.asarray([1, 0, 2, 3], np.float32)}))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0, 3)])
def test_an_empty_weight_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelShapeError, match=r"weight 'w' has shape \[.*0.*\], with a zero or negative dimension"):
        import_onnx(make_model(ADD, weights={"w": np.zeros(shape, np.float32)}))


def test_an_empty_vector_says_that_an_option_is_not_given() -> None:
    nodes = [node("Reshape", ["s", "w"], ["r"]), node("Add", ["x", "r"], ["y"])]
    imported = import_onnx(make_model(nodes, weights={"w": np.zeros(0, np.int64), "s": np.ones(1, np.float32)}))
    assert tensor_differences(imported, random_feeds(imported)) == []


def test_an_absurdly_large_weight_is_refused_before_anything_is_allocated() -> None:
    model = make_model(ADD, weights={"w": np.ones(4, np.float32)})
    model.graph.initializer[0].dims[:] = [2**20, 2**20]
    with pytest.raises(ModelShapeError, match="which is 1099511627776 elements; at most 2147483648"):
        import_onnx(model)


def test_a_negative_dimension_of_a_weight_is_refused() -> None:
    model = make_model(ADD, weights={"w": np.ones(4, np.float32)})
    model.graph.initializer[0].dims[:] = [-4]
    with pytest.raises(ModelShapeError, match="negative"):
        import_onnx(model)


def test_a_weight_with_too_few_data_is_refused() -> None:
    model = make_model(ADD, weights={"w": np.ones(4, np.float32)})
    model.graph.initializer[0].raw_data = b"\0" * 15
    with pytest.raises(ModelFormatError, match=r"weight 'w' of shape \[4\] is damaged"):
        import_onnx(model)


def test_a_tensor_that_gets_absurdly_large_is_refused() -> None:
    nodes = [node("Expand", ["x", "w"], ["e"]), node("ReduceMax", ["e"], ["y"])]
    with pytest.raises(ModelShapeError, match="tensor 'e' .*elements; at most"):
        import_onnx(make_model(nodes, weights={"w": np.asarray([2**16, 2**16, 4], np.int64)}))


def test_a_constant_that_would_be_absurdly_large_is_refused_before_it_is_computed() -> None:
    nodes = [node("ConstantOfShape", ["w"], ["c"]), node("ReduceMax", ["c"], ["m"]), node("Add", ["x", "m"], ["y"])]
    with pytest.raises(ModelShapeError, match="elements; at most"):
        import_onnx(make_model(nodes, weights={"w": np.asarray([2**20, 2**20], np.int64)}))


def test_a_tensor_without_elements_is_refused() -> None:
    nodes = [node("Slice", ["x", "s", "e", "a"], ["p"], "cut"), node("Relu", ["p"], ["y"])]
    bounds = {"s": np.asarray([2]), "e": np.asarray([2]), "a": np.asarray([1])}
    with pytest.raises(ModelShapeError, match=r"'p' made by Slice node 'cut' .* has shape \[1, 0\]"):
        import_onnx(make_model(nodes, weights=bounds))


def test_integer_weights_have_no_values_to_refuse() -> None:
    nodes = [node("Cast", ["w"], ["c"], to=TensorProto.FLOAT), node("Add", ["x", "c"], ["y"])]
    imported = import_onnx(make_model(nodes, weights={"w": np.asarray([-128, 127, 0, 1], np.int8)}))
    assert tensor_differences(imported, random_feeds(imported)) == []
