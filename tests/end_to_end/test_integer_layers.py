"""Networks of several bits: integer layers between quantizers compute what the source's own operators do on exact sums."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc

SCALE, STEP = np.float32(0.25), np.float32(0.125)  # powers of two: the reference's own float sums are exact


def network(activations: tuple[float, float], weight_max: int, groups: int, pool: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(weight_max)
    nodes, constants = [], {"scale": SCALE, "low": np.float32(activations[0]), "high": np.float32(activations[1])}
    constants["gain"] = rng.choice([0.25, -0.5, 1], (8, 1, 1)).astype(np.float32)

    def node(kind, *inputs, **attributes):
        nodes.append(helper.make_node(kind, list(inputs), [f"t{len(nodes)}"], f"n{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    def quantized(x):
        return node("Mul", node("Round", node("Clip", node("Div", x, "scale"), "low", "high")), "scale")

    def weights(name, *shape):
        constants[name] = rng.integers(-weight_max, weight_max + 1, shape).astype(np.float32) * STEP
        return name

    x = quantized("x")
    x = quantized(node("Mul", node("Conv", x, weights("w1", 8, 3, 3, 3), pads=[1, 1, 1, 1]), "gain"))
    x = node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]) if pool else x
    x = quantized(node("Conv", x, weights("w2", 8, 8 // groups, 3, 3), pads=[1, 0, 1, 2], strides=[2, 1], group=groups))
    x = node("Conv", x, weights("w3", 5, 8, 1, 1))
    output = helper.make_tensor_value_info(x, TensorProto.FLOAT, None)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 10])
    graph = helper.make_graph(nodes, "kbit", [image], [output], [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    "activations, weight_max, groups, pool",
    [((0, 7), 3, 1, True), ((-4, 3), 7, 2, False), ((0, 15), 1, 1, True), ((0, 255), 127, 1, False), ((-127, 127), 7, 8, True), ((0, 3), 3, 8, False)],
)
def test_integer_layers_are_exact(activations, weight_max, groups, pool, tmp_path):
    model = network(activations, weight_max, groups, pool)
    x = np.random.default_rng(1).normal(0, 0.4 * activations[1] * SCALE, (1, 3, 12, 10)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    artifact = bnncc.compile(model, target="x86-64")
    artifact.save(tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(bnncc.load(tmp_path / "out")(x)), expected)
    assert all(row.integer for row in artifact.report.layers)
    bits = int(activations[1] - activations[0]).bit_length()
    assert artifact.report.layers[1].reason.startswith(f"{bits}-bit input, ")


def plane_network(low: int, high: int, odd: bool, values: list[int], groups: int) -> onnx.ModelProto:
    """Return two layers of 32 channels on codes, `odd` ones where they lie at half steps, and a float layer behind them."""
    rng = np.random.default_rng(len(values))
    nodes, constants = [], {"scale": SCALE, "low": np.float32(low), "high": np.float32(high), "half": np.float32(0.5)}

    def node(kind, *inputs, **attributes):
        nodes.append(helper.make_node(kind, list(inputs), [f"t{len(nodes)}"], f"n{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    def quantized(x):
        level = node("Round", node("Clip", node("Div", x, "scale"), "low", "high"))
        return node("Mul", node("Add", level, "half") if odd else level, "scale")

    def weights(name, *shape):
        constants[name] = rng.choice(np.array(values, np.float32), shape) * STEP
        return name

    x = quantized("x")
    x = quantized(node("Conv", x, weights("w1", 32, 32 // groups, 3, 3), pads=[1, 1, 1, 1], group=groups))
    x = quantized(node("Conv", x, weights("w2", 32, 32 // groups, 3, 3), pads=[2, 0, 2, 2], strides=[1, 2], dilations=[2, 1], group=groups))
    x = node("Conv", x, weights("w3", 5, 32, 1, 1))
    image, output = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 7, 8]), helper.make_tensor_value_info(x, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "planes", [image], [output], [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    "low, high, odd, values, groups, planes",
    [(0, 3, False, [-1, 1], 1, "2 x 1"), (0, 3, False, [-1, 0, 1], 1, "2 x 2"), (-2, 1, True, [-1, 1], 2, "2 x 1"), (-2, 1, False, [-3, -1, 1, 3], 1, "2 x 2")],
)
def test_layers_of_few_bits_run_on_planes_and_are_exact(low, high, odd, values, groups, planes, tmp_path):
    model = plane_network(low, high, odd, values, groups)
    x = np.random.default_rng(1).normal(0, 2 * SCALE, (1, 32, 7, 8)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    artifact = bnncc.compile(model, target="x86-64")
    artifact.save(tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(bnncc.load(tmp_path / "out")(x)), expected)
    assert [row.bits for row in artifact.report.layers] == [True, True, False]
    assert artifact.report.layers[1].reason.endswith(f"{planes} bit planes, xor + popcount")


@pytest.mark.parametrize(
    "low, high, odd, groups, threads", [(0, 15, False, 1, 1), (0, 7, False, 1, 2), (-8, 7, True, 1, 1), (-128, 127, False, 1, 2), (0, 255, False, 1, 1)]
)
def test_layers_of_signs_on_more_bits_are_sums_looked_up_and_exact(low, high, odd, groups, threads, tmp_path):
    model = plane_network(low, high, odd, [-1, 1], groups)
    x = np.random.default_rng(1).normal(0, high * SCALE, (1, 32, 7, 8)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    artifact = bnncc.compile(model, target="x86-64", threads=threads)
    artifact.save(tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(bnncc.load(tmp_path / "out", threads=threads)(x)), expected)
    bits = int(high - low).bit_length() + odd  # a padded 0 lies between odd codes
    assert artifact.report.layers[0].reason.endswith(f"sums of 4 codes of {bits} bits, looked up by 4 signs")
