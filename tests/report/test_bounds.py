"""Bounds of rounding hold what onnxruntime computes, are exact where float32 is, and split what a threshold leaves open."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnncc.report.bounds import SLACK, Bounds, RoundingBounds, _grid


def model_of(nodes, stored=(), inputs=("x",), opset=17):
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    graph = helper.make_graph(nodes, "g", values, [onnx.ValueInfoProto(name="y")], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def bounds_of(nodes, x, stored=(), name="y"):
    def no_constants(names):
        raise AssertionError(f"asked for {names}")

    return RoundingBounds(model_of(nodes, stored), no_constants).of(name, {"x": x})


def run(nodes, x, stored=()):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model_of(nodes, stored).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


def node(kind, *inputs, **attributes):
    return helper.make_node(kind, ["x", *inputs], ["y"], **attributes)


RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(1, 4, 5, 5)).astype(np.float32)
ROUNDED = {
    "conv": (node("Conv", "w", "b", pads=[1, 1, 1, 1], strides=[2, 2]), {"w": RNG.normal(size=(6, 4, 3, 3)), "b": RNG.normal(size=6)}),
    "grouped conv": (node("Conv", "w", group=4), {"w": RNG.normal(size=(4, 1, 3, 3))}),
    "batch norm": (
        node("BatchNormalization", "s", "b", "m", "v"),
        {"s": [1.5, -2, 0.1, 3], "b": [0, 1, -7, 2], "m": [0.1, 5, -2, 0], "v": [1, 2, 0.01, 30]},
    ),
    "add": (node("Add", "c"), {"c": RNG.normal(size=(4, 1, 1))}),
    "sub": (node("Sub", "c"), {"c": RNG.normal(size=(4, 1, 1))}),
    "mul": (node("Mul", "c"), {"c": RNG.normal(size=(4, 1, 1))}),
    "div": (node("Div", "c"), {"c": RNG.normal(size=(4, 1, 1))}),
    "prelu": (node("PRelu", "c"), {"c": [[[0.3]], [[-0.7]], [[0.0]], [[2.0]]]}),
    "leaky relu": (node("LeakyRelu", alpha=0.1), {}),
    "sigmoid": (node("Sigmoid"), {}),
    "tanh": (node("Tanh"), {}),
    "average pool": (node("AveragePool", kernel_shape=[3, 3]), {}),
    "mean of the image": (node("GlobalAveragePool"), {}),
    "linear resize": (node("Resize", "", "scales", mode="linear"), {"scales": [1, 1, 2.5, 2]}),
}
EXACT = {
    "relu": (node("Relu"), {}),
    "clip": (node("Clip", "low", "high"), {"low": -0.5, "high": 0.5}),
    "max pool": (node("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    "transpose": (node("Transpose", perm=[0, 2, 3, 1]), {}),
    "flatten": (node("Flatten"), {}),
    "nearest resize": (node("Resize", "", "scales", mode="nearest"), {"scales": [1, 1, 2, 3]}),
    "sign": (node("Sign"), {}),
    "abs": (node("Abs"), {}),
    "round": (node("Round"), {}),
}


def stored_of(arrays):
    return [(name, np.asarray(array, np.float32)) for name, array in arrays.items()]


@pytest.mark.parametrize("case", ROUNDED)
def test_bounds_of_a_rounded_operator_hold_its_float32_result_closely(case):
    operator, arrays = ROUNDED[case]
    bounds = bounds_of([operator], IMAGE, stored_of(arrays))
    result = run([operator], IMAGE, stored_of(arrays)).astype(np.float64)
    assert np.all(bounds.low <= result) and np.all(result <= bounds.high)
    assert 0 < np.max(bounds.high - bounds.low) < 1e-3 * max(1, np.abs(result).max())


@pytest.mark.parametrize("case", EXACT)
def test_an_operator_that_rounds_nothing_is_exact(case):
    operator, arrays = EXACT[case]
    bounds = bounds_of([operator], IMAGE, stored_of(arrays))
    result = run([operator], IMAGE, stored_of(arrays))
    np.testing.assert_array_equal(bounds.low, result)
    np.testing.assert_array_equal(bounds.high, result)


def test_sums_of_signs_are_exact_and_scaled_ones_are_not():
    signs, weights = np.sign(IMAGE), RNG.choice([-1, 1], (3, 4, 2, 2)).astype(np.float32)
    assert bounds_of([node("Conv", "w")], signs, [("w", weights)]).is_exact
    scaled = bounds_of([node("Conv", "w")], signs, [("w", weights * np.float32(0.1))])
    np.testing.assert_allclose(scaled.high - scaled.low, 2 * SLACK * 16 * np.float32(0.1), rtol=1e-6)


def test_integers_beyond_24_bits_are_not_exact():
    big = np.full((1, 4, 1, 1), 2.0**23 + 1, np.float32)
    weights = np.ones((1, 4, 1, 1), np.float32)
    assert not bounds_of([node("Conv", "w")], big, [("w", weights)]).is_exact
    assert bounds_of([node("Conv", "w")], big - 1, [("w", weights)]).is_exact  # multiples of 2^23


def test_an_interval_around_the_threshold_leaves_the_sign_open():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["sum"]), helper.make_node("GreaterOrEqual", ["sum", "zero"], ["test"])]
    nodes.append(helper.make_node("Where", ["test", "plus", "minus"], ["y"]))
    stored = [("w", np.float32([[1], [1], [-1]])), *((n, np.float32(v)) for n, v in (("zero", 0), ("plus", 1), ("minus", -1)))]
    x = np.float32([[0.1, 0.2, 0.3], [0.1, 0.2, 0.2], [0.1, 0.2, 0.4]])
    bounds = bounds_of(nodes, x, stored)
    assert bounds.low[:, 0].tolist() == [-1, 1, -1] and bounds.high[:, 0].tolist() == [1, 1, -1]


@pytest.mark.parametrize("kind", ["Abs", "PRelu"])
def test_a_kink_at_0_inside_an_interval_counts(kind):
    """0.1 + 0.2 - 0.3 may be 0, though neither end of its interval is mapped to the least value."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sum"]),
        helper.make_node(kind, ["sum", *(["slope"] if kind == "PRelu" else [])], ["y"]),
    ]
    bounds = bounds_of(nodes, np.float32([[0.1, 0.2, 0.3]]), [("w", np.float32([[1], [1], [-1]])), ("slope", np.float32([-1]))])
    assert bounds.low[0, 0] == pytest.approx(0, abs=1e-11) and 1e-7 < bounds.high[0, 0] < 1e-5


def test_equality_is_open_where_an_interval_holds_the_number():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["sum"]), helper.make_node("Equal", ["sum", "zero"], ["y"])]
    x = np.float32([[0.1, 0.2, 0.3], [0.1, 0.2, 0.2]])
    bounds = bounds_of(nodes, x, [("w", np.float32([[1], [1], [-1]])), ("zero", np.float32(0))])
    assert bounds.low[:, 0].tolist() == [False, False] and bounds.high[:, 0].tolist() == [True, False]
    whole = bounds_of(nodes, np.float32([[1, 2, 3], [1, 2, 4]]), [("w", np.float32([[1], [1], [-1]])), ("zero", np.float32(0))])
    assert whole.low[:, 0].tolist() == whole.high[:, 0].tolist() == [True, False]


def test_an_interval_that_meets_a_layer_is_spread_by_the_size_of_its_weights():
    weights = np.float32([[2, -3], [-5, 7], [1, 1]])
    nodes = [helper.make_node("Mul", ["x", "tenth"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    x = np.float32([[3, 5, 7]])
    bounds = bounds_of(nodes, x, [("tenth", np.float32(0.1)), ("w", weights)])
    wide = 2 * SLACK * 0.1 * np.abs(x) @ np.abs(weights)  # of the products, and again of the sum
    np.testing.assert_allclose(bounds.high - bounds.low, 2 * wide, rtol=0.05)


def test_an_operator_that_is_not_known_gives_no_bounds():
    assert bounds_of([node("Softmax")], IMAGE) is None
    assert bounds_of([node("Relu", domain="my.domain")], IMAGE) is None


def test_a_product_of_two_uncertain_matrices_gives_no_bounds():
    nodes = [helper.make_node("Mul", ["x", "tenth"], ["a"]), helper.make_node("MatMul", ["a", "a"], ["y"])]
    assert bounds_of(nodes, RNG.normal(size=(3, 3)).astype(np.float32), [("tenth", np.float32(0.1))]) is None


def test_a_tensor_without_a_path_to_what_is_known_gives_no_bounds():
    assert RoundingBounds(model_of([node("Relu")]), dict).of("y", {"z": IMAGE}) is None


def test_constants_computed_in_the_graph_are_asked_for_at_once():
    nodes = [
        helper.make_node("Sign", ["raw"], ["w"]),
        helper.make_node("Neg", ["raw"], ["c"]),
        helper.make_node("MatMul", ["x", "w"], ["sum"]),
        helper.make_node("Add", ["sum", "c"], ["y"]),
    ]
    raw, asked = np.float32([[2.0, -3.0]]), []

    def constants(names):
        asked.append(names)
        return {"w": np.sign(raw), "c": -raw}

    bounds = RoundingBounds(model_of(nodes, [("raw", raw)]), constants).of("y", {"x": np.float32([[2]])})
    assert bounds.low.tolist() == [[0.0, 1.0]] and asked == [["w", "c"]]


def test_the_grid_is_the_largest_power_of_two_that_divides_all():
    assert _grid(np.float32([3, -6, 0])) == 1 and _grid(np.float32([0.75, 2])) == 0.25 and _grid(np.zeros(2, np.float32)) == 1
    assert _grid(np.float32([0.1])) < 1e-8 and _grid(np.float32([8, 24])) == 8


def test_what_is_known_is_exact():
    array = np.float32([1.5, -0.0])
    bounds = Bounds.exactly(array)
    assert bounds.is_exact and bounds.low.dtype == np.float64 and bounds.low.tolist() == [1.5, 0.0]
