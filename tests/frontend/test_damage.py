"""Damaged files: whatever is wrong with a model, it imports or is refused with an error of ours."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest

from bnncc.errors import ModelError
from bnncc.frontend import import_onnx

from .models import make_model, node

WEIGHTS = {
    "w": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32),
    "s": np.float32(0.5),
    "z": np.float32(0),
    "b": np.float32(2),
    "t": np.zeros((4, 1), np.float32),
    "dense": np.ones((36, 5), np.float32),
    "target": np.asarray([0, -1]),
}
NODES = [
    node("Quant", ["x", "s", "z", "b"], ["q"], "quant", domain="onnx.brevitas", signed=1, narrow=1),
    node("Sign", ["w"], ["sw"], "weights"),
    node("Pad", ["q"], ["p"], "pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.0),
    node("Conv", ["p", "sw"], ["c"], "conv", kernel_shape=[3, 3], strides=[2, 2]),
    node(
        "MultiThreshold",
        ["c", "t"],
        ["m"],
        "thresholds",
        domain="finn.custom_op.general",
        out_scale=2.0,
        out_bias=-1.0,
        out_dtype="BIPOLAR",
    ),
    node("Reshape", ["m", "target"], ["f"], "flatten"),
    node("MatMul", ["f", "dense"], ["y"], "dense"),
]
MODEL = make_model(NODES, ("N", 3, 6, 6), WEIGHTS, opset=10)


def test_the_undamaged_model_imports() -> None:
    assert import_onnx(MODEL).outputs[0].shape == (1, 5)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_never_escape_as_another_error(seed: int, tmp_path: Path) -> None:
    draw, sound, path = random.Random(seed), MODEL.SerializeToString(), tmp_path / "m.onnx"
    refused = 0
    for _ in range(60):
        data = bytearray(sound)
        for _ in range(draw.choice([1, 1, 3, 10])):
            at = draw.randrange(len(data))
            change = draw.randrange(3)
            if change == 0:
                data[at] = draw.randrange(256)
            elif change == 1:
                del data[at : at + draw.randrange(1, 6)]
            else:
                data[at:at] = draw.randbytes(draw.randrange(1, 6))
        path.write_bytes(data)
        try:
            import_onnx(path)
        except ModelError:
            refused += 1
    assert refused > 0


def _damage(model: onnx.ModelProto, draw: random.Random) -> None:
    graph = model.graph
    victim = draw.choice(graph.node)
    names = [name for n in graph.node for name in n.output] + [t.name for t in graph.initializer] + ["x", "", "ghost"]
    change = draw.randrange(8)
    if change == 0:
        victim.op_type = draw.choice(
            ["Conv", "MatMul", "Softmax", "Split", "Loop", "LSTM", "Where", "Constant", "Quant", "TopK", "If", "Shape", "NonZero"]
        )
    elif change == 1 and victim.input:
        victim.input[draw.randrange(len(victim.input))] = draw.choice(names)
    elif change == 2 and victim.input:
        del victim.input[draw.randrange(len(victim.input))]
    elif change == 3:
        victim.output[0] = draw.choice(names)
    elif change == 4 and victim.attribute:
        attribute = draw.choice(victim.attribute)
        attribute.i = draw.choice([-1, 0, 2**40])
        if attribute.ints:
            attribute.ints[0] = draw.choice([-1, 0, 2**40])
    elif change == 5:
        tensor = draw.choice(graph.initializer)
        if tensor.dims:
            tensor.dims[0] = draw.choice([0, -1, 2**40, 3])
    elif change == 6:
        model.opset_import[0].version = draw.choice([1, 8, 9, 11, 13, 18, 21])
    else:
        graph.input[0].type.tensor_type.elem_type = draw.choice([0, 2, 8, 9, 10, 11, 16])


@pytest.mark.parametrize("seed", range(8))
def test_damaged_graphs_never_escape_as_another_error(seed: int) -> None:
    draw, refused = random.Random(seed), 0
    for _ in range(60):
        model = onnx.ModelProto()
        model.CopyFrom(MODEL)
        for _ in range(draw.choice([1, 1, 2, 4])):
            _damage(model, draw)
        try:
            import_onnx(model)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 0
