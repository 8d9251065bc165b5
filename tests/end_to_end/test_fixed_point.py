"""Layers rounded to fixed point: only when asked, never silently, and verify counts what differs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc
from bnncc.errors import InputError
from bnncc.passes.code_range import CodeRange
from bnncc.passes.fixed_point import rounded_filters
from bnncc.report.verify import verify_artifact
from bnncc.spec import ByteInput

F = np.float32
MEAN, DEVIATION = (np.array(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
IMAGES = np.random.default_rng(1).integers(0, 256, (4, 1, 3, 12, 12)).astype(np.uint8)
PIXEL = {"": ByteInput(1 / 255)}


def network(normalised: bool = False) -> onnx.ModelProto:
    """Return a float convolution, a binary one, and a float dense layer on signs."""
    rng, weights = np.random.default_rng(0), []

    def stored(name, array):
        weights.append(numpy_helper.from_array(np.asarray(array, F), name))
        return name

    steps = [("Sub", MEAN), ("Div", DEVIATION)] if normalised else []
    last, nodes = "x", []
    for number, (operator, operand) in enumerate(steps):
        nodes.append(helper.make_node(operator, [last, stored(f"n{number}", operand)], [last := f"step{number}"]))
    nodes += [
        helper.make_node("Conv", [last, stored("w", rng.normal(size=(16, 3, 3, 3)))], ["c"]),
        helper.make_node("Sign", ["c"], ["s"]),
        helper.make_node("Conv", ["s", stored("u", rng.choice([-1.0, 1.0], (8, 16, 3, 3)))], ["d"]),
        helper.make_node("Sign", ["d"], ["t"]),
        helper.make_node("Flatten", ["t"], ["f"]),
        helper.make_node("MatMul", ["f", stored("v", rng.normal(size=(512, 5)))], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 3, 12, 12]), ("y", [1, 5])))
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def kinds(artifact) -> list[str]:
    return ["bits" if row.bits else "integers" if row.integer else "float" for row in artifact.report.layers]


def test_float_layers_stay_float_unless_asked():
    assert kinds(bnncc.compile(network(), target="x86-64-v3", byte_inputs=PIXEL)) == ["float", "bits", "float"]


@pytest.mark.parametrize("normalised", [False, True])
def test_first_and_last_layer_run_on_integers_when_asked_and_verify_counts_what_differs(normalised):
    artifact = bnncc.compile(network(normalised), target="x86-64-v3", byte_inputs=PIXEL, fixed_layers=("first", "last"))
    assert kinds(artifact) == ["integers", "bits", "integers"] and not artifact.warnings
    report = verify_artifact(artifact, IMAGES)
    rounded = {row.tensor: row for row in report.sections if row.is_rounded}
    assert report.ok and {"s", "y"} <= set(rounded)
    assert rounded["s"].differing < 0.002 * rounded["s"].elements
    assert 0 < rounded["y"].largest < 5e-3  # of numbers around 20
    assert all(row.ok and not row.differing for row in report.sections if not row.is_rounded)


def test_a_layer_that_cannot_be_rounded_is_told():
    artifact = bnncc.compile(network(), target="x86-64-v3", fixed_layers=("first",))
    assert kinds(artifact)[0] == "float" and any("--first-layer fixed rounds nothing" in text for text in artifact.warnings)


def test_another_layer_is_refused():
    with pytest.raises(InputError, match="fixed_layers holds 'middle'"):
        bnncc.compile(network(), fixed_layers=("middle",))


@pytest.mark.parametrize(("inputs", "codes"), [(27, CodeRange(0, 255, 1)), (4608, CodeRange(0, 255, 1)), (512, CodeRange(-1, 1, 2))])
def test_weights_have_as_many_bits_as_sums_leave_room_for(inputs, codes):
    filters = np.random.default_rng(0).normal(size=(3, inputs)).astype(F)
    filters[1] = 0
    made = rounded_filters(filters, codes)
    integers = made.integers.astype(np.int64)
    assert np.abs(integers).sum(1).max() * max(abs(codes.lo), codes.hi) <= 1 << 28
    step = np.abs(filters).max(1, keepdims=True) / np.maximum(np.abs(integers).max(1, keepdims=True), 1)
    assert np.all(np.abs(integers * made.scale[:, None] - filters) <= 0.51 * step)
