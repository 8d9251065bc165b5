"""Filters as sums of sign planes, and layers on them against the source's own sums."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc
from bnncc.passes.planes import filter_planes


def filled(levels, seed=0, shape=(6, 3, 3, 8)):
    """Draw filters whose values are `levels` times a scale for each channel."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.5, 2, (shape[0], 1, 1, 1))
    return (rng.choice(levels, shape) * scale).astype(np.float32)


@pytest.mark.parametrize(
    "levels, planes, centred",
    [
        ((-1, 1), 1, True), ((-0.3, 0.9), 1, False), ((-1, 0, 1), 2, True), ((-0.37, 0, 0.61), 2, False),
        ((-1.3, -0.3, 0.3, 1.3), 2, True), ((0, 0.2, 0.9, 1.1), 2, False),
    ],
)
def test_filters_are_the_sum_of_their_planes(levels, planes, centred):
    filters = filled(levels)
    found = filter_planes(filters)
    assert len(found.signs) == planes and set(np.unique(found.signs)) == {-1, 1}
    assert found.offset.any() != centred
    total = sum(s * a[:, None, None, None] for s, a in zip(found.signs, found.scales)) + found.offset[:, None, None, None]
    np.testing.assert_allclose(total, filters, atol=1e-6)


@pytest.mark.parametrize("levels", [(-1, -0.2, 0.3, 1), (-2, -1, 0, 1, 2), tuple(np.linspace(-1, 1, 30))])
def test_filters_of_more_than_two_bases_have_no_planes(levels):
    assert filter_planes(filled(levels)) is None


def test_a_channel_of_one_value_is_all_offset():
    filters = filled((-0.3, 0.9))
    filters[2], filters[4] = 0, 0.5
    found = filter_planes(filters)
    assert found.scales[0][2] == found.scales[0][4] == found.offset[2] == 0 and found.offset[4] == 0.5


def compiled_and_expected(nodes, constants, tmp_path, shape=(1, 8, 7, 6)):
    """Return what bnncc and onnxruntime make of a network from `x` to what its convolutions give, both by output, and the bits of the report by layer."""
    outputs = [node.output[0] for node in nodes if node.op_type == "Conv"]
    image, *ends = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), *((name, None) for name in outputs)))
    graph = helper.make_graph(nodes, "uneven", [image], ends, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    expected = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(outputs, {"x": x})
    artifact = bnncc.compile(model, target="native")
    artifact.save(tmp_path / "out")
    result = bnncc.load(tmp_path / "out")(x)
    return result, dict(zip(outputs, expected, strict=True)), {row.node: row.bits for row in artifact.report.layers}


GEOMETRIES = {"plain": ((0, 0, 0, 0), 1, 1), "padded": ((1, 1, 1, 1), 1, 1), "groups": ((0, 0, 1, 1), 2, 2), "lopsided": ((2, 0, 1, 0), 2, 1)}
"""Padding, groups and stride."""


@pytest.mark.parametrize("levels", [(-1, 1), (-0.25, 0.75), (-0.25, 0, 0.75)])
@pytest.mark.parametrize("low, high", [(-1, 1), (0, 1), (-0.5, 1.5)])
def test_layers_of_uneven_values_give_the_sums_of_the_source(levels, low, high, tmp_path):
    """Layers of all geometries read one tensor, so that all are compiled at once."""
    nodes = [helper.make_node("GreaterOrEqual", ["x", "zero"], ["c"]), helper.make_node("Where", ["c", "high", "low"], ["v"])]
    constants = {"zero": np.float32(0), "high": np.float32(high), "low": np.float32(low)}
    for name, (pads, groups, stride) in GEOMETRIES.items():
        # dyadic numbers: the reference's own sums are exact
        constants[f"{name}_w"] = np.random.default_rng(0).choice(levels, (6, 8 // groups, 3, 3)).astype(np.float32)
        nodes.append(helper.make_node("Conv", ["v", f"{name}_w"], [f"{name}_y"], name, pads=list(pads), group=groups, strides=[stride] * 2))
    result, expected, bits = compiled_and_expected(nodes, constants, tmp_path)
    for output, array in expected.items():
        np.testing.assert_array_equal(result[output], array, output)
    assert bits == dict.fromkeys(GEOMETRIES, True)


FILTERS = {"signs": (-1, 1), "two": (-0.5, 0.25), "four": (-1, -0.25, 0.25, 1)}
"""Values of the filters."""


@pytest.mark.parametrize("levels, bits", [((0, 0.25, 1, 1.25), True), ((-1.5, -0.5, 0.5, 1.5), False), ((-1, 0, 0.25), True), ((-1, 0.25, 0.5, 1), False)])
@pytest.mark.parametrize("falling", [False, True])
def test_uneven_levels_of_the_input_give_the_sums_of_the_source(levels, bits, falling, tmp_path):
    constants = {"v0": np.float32(levels[0])}
    nodes, last = [], "v0"
    for i, level in enumerate(levels[1:]):
        constants |= {f"v{i + 1}": np.float32(level), f"t{i}": np.float32((-0.5 if falling else 0.5) * (i - 1))}
        nodes.append(helper.make_node("Less" if falling else "Greater", ["x", f"t{i}"], [f"c{i}"]))
        nodes.append(helper.make_node("Where", [f"c{i}", f"v{i + 1}", last], [f"y{i}"]))
        last = f"y{i}"
    for name, values in FILTERS.items():
        constants[f"{name}_w"] = np.random.default_rng(2).choice(values, (5, 8, 3, 3)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [last, f"{name}_w"], [f"{name}_y"], name, pads=[1, 1, 1, 1]))
    result, expected, found = compiled_and_expected(nodes, constants, tmp_path)
    for output, array in expected.items():
        np.testing.assert_array_equal(result[output], array, output)
    assert found == dict.fromkeys(FILTERS, bits)
