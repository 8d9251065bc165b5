"""Images of bytes: compiled networks compute from a camera's bytes what onnxruntime computes from the numbers that they stand for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnncc
from bnncc.frontend import import_onnx
from bnncc.report.reference import Reference
from bnncc.report.verify import verify_artifact
from bnncc.spec import ByteInput
from tests.end_to_end.test_real_models import NETWORKS, model_file

F = np.float32
MEAN, DEVIATION = (np.array(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def network(steps, padding: int, seed: int = 0) -> onnx.ModelProto:
    """Return two binary convolutions, the first on an image that a graph normalises by `steps`, pairs of operator and operand."""
    rng, weights, nodes, last = np.random.default_rng(seed), [], [], "x"

    def stored(name, array):
        weights.append(numpy_helper.from_array(np.asarray(array, F), name))
        return name

    for number, (operator, operand) in enumerate(steps):
        operands = [last] if operand is None else [last, stored(f"operand{number}", operand)]
        nodes.append(helper.make_node(operator, operands, [last := f"step{number}"]))
    first, second = rng.choice([-1.0, 1.0], (16, 3, 3, 3)), rng.choice([-1.0, 1.0], (8, 16, 3, 3))
    norm = [stored(name, values) for name, values in zip("gbmv", (rng.normal(size=16), rng.normal(size=16) * 3, rng.normal(size=16), rng.random(16) + 0.5))]
    nodes += [
        helper.make_node("Conv", [last, stored("w", first)], ["c"], pads=[padding] * 4),
        helper.make_node("BatchNormalization", ["c", *norm], ["n"]),
        helper.make_node("Sign", ["n"], ["s"]),
        helper.make_node("Conv", ["s", stored("u", second)], ["y"]),
    ]
    size = 8 + 2 * padding
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 3, 12, 12]), ("y", [1, 8, size, size])))
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


INTEGER = {
    "as they are": ([], 0, ByteInput()),
    "a zero between bytes": ([], 0, ByteInput(2 / 255, 127.5)),
    "padded with the byte of 0": ([], 1, ByteInput(1 / 64, 128)),
    "padded half way between bytes": ([], 1, ByteInput(2 / 255, 127.5)),
    "a falling line": ([("Neg", None)], 1, ByteInput(1 / 255, 3)),
    "normalised in the graph": ([("Div", 255.0), ("Sub", 0.5), ("Mul", 2.0)], 1, ByteInput()),
    "a mean for each channel": ([("Sub", MEAN * 255)], 0, ByteInput()),
    "a whole mean for each channel, padded": ([("Sub", np.round(MEAN * 255))], 1, ByteInput()),
    "rounded to codes": ([("Mul", 128.0), ("Round", None), ("Min", 127.0), ("Mul", 1 / 128)], 1, ByteInput(2 / 255, 127.5)),
}
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 1, 3, 12, 12)).astype(np.uint8)


@pytest.mark.parametrize("case", INTEGER)
def test_a_first_layer_of_signs_sums_bytes_as_integers(case):
    steps, padding, meaning = INTEGER[case]
    artifact = bnncc.compile(network(steps, padding), target="x86-64-v3", byte_inputs={"": meaning})
    assert [row.bits or row.integer for row in artifact.report.layers] == [True, True], artifact.report.layers[0].reason
    assert verify_artifact(artifact, IMAGES).ok


def test_a_deviation_for_each_channel_stays_as_the_graph_says_and_is_told():
    artifact = bnncc.compile(network([("Div", 255.0), ("Sub", MEAN), ("Div", DEVIATION)], 1), target="x86-64-v3", byte_inputs={"": ByteInput()})
    assert "the input's scale differs from channel to channel" in artifact.report.layers[0].reason
    assert verify_artifact(artifact, IMAGES).ok


@pytest.mark.parametrize(("name", "meaning"), [("gtsrb", ByteInput()), ("tfc", ByteInput(1 / 255)), ("cnv", ByteInput(1 / 128, 128))])
def test_a_trained_network_takes_bytes(tmp_path, name, meaning):
    network, model = NETWORKS[name], model_file(NETWORKS[name].file, tmp_path)
    shapes = {onnx.load(model).graph.input[0].name: network.shape}
    artifact = bnncc.compile(model, target="x86-64-v3", shapes=shapes, byte_inputs={"": meaning})
    assert all(row.bits or row.integer for row in artifact.report.layers) and not artifact.warnings
    artifact.save(tmp_path / "out")
    compiled = bnncc.load(tmp_path / "out")
    (spec,), (out,) = artifact.model.inputs, artifact.model.outputs
    plain = Reference(import_onnx(model, shapes).reference, [out.name])
    for image in np.random.default_rng(0).integers(0, 256, (4, *network.shape)).astype(np.uint8):
        real = F(meaning.scale) * (image.astype(F) - F(meaning.zero))
        np.testing.assert_allclose(compiled(image), plain.run({spec.name: real})[out.name], rtol=1e-5, atol=1e-30)
