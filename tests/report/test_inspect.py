"""inspect tells of every layer whether it runs on bits and why, with sizes that agree with the model and with what is compiled."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper
from rich.console import Console

from bnncc.errors import InternalError, ModelFormatError, TargetError
from bnncc.passes.context import LayerRow
from bnncc.report.inspect import LayerEntry, inspect_model
from bnncc.report.inspect_text import count, size
from bnncc.report.steps import steps_of

from .network import as_model, binary_network, compiled


@pytest.fixture(scope="module")
def report():
    return inspect_model(binary_network(), target="native")


def text_of(report, width=120):
    console = Console(file=io.StringIO(), width=width)
    report.to_text(console)
    return console.file.getvalue()


def test_each_layer_is_told_with_its_reason(report):
    assert [(layer.node, layer.op, layer.bits) for layer in report.layers] == [
        ("stem", "Conv", False),
        ("conv_1", "Conv", True),
        ("conv_2", "Conv", True),
        ("dense", "Gemm", True),
    ]
    assert "real-valued" in report.layers[0].reason and "two-valued input and weights" in report.layers[1].reason


def test_multiply_accumulates_and_weights_are_those_of_the_model(report):
    weights = {t.name: numpy_helper.to_array(t) for t in binary_network().graph.initializer}
    pixels = {"stem": 6 * 6, "conv_1": 4 * 4, "conv_2": 2 * 2, "dense": 1}
    for layer, name in zip(report.layers, ("w0", "w1", "w2", "w3"), strict=True):
        assert layer.macs == weights[name].size * pixels[layer.node]
        assert layer.float_weight_bytes == weights[name].nbytes
        assert layer.weight_bytes == (weights[name].size // 8 if layer.bits else weights[name].nbytes)
    totals = report.totals
    assert totals["bit_share_of_macs"] == pytest.approx(1 - report.layers[0].macs / totals["macs"])
    assert (totals["layers"], totals["bit_layers"]) == (4, 3)


def test_each_step_tells_what_it_reads_and_writes(report):
    """The stem reads the image and leaves bits; what a layer reads is what another step has written."""
    made = {spec["name"] for spec in report.inputs} | {"flat"}  # a reshape, which no kernel makes
    for step in report.steps:
        assert {t.tensor for t in step.inputs} <= made
        made |= {t.tensor for t in step.outputs}
    first = report.steps[0]
    assert [(t.type, t.shape) for t in first.inputs] == [("float32", tuple(report.inputs[0]["shape"][1:]))]
    bits = [t for step in report.steps for t in step.outputs if t.type.startswith("1-bit")]
    assert bits and all(8 * t.nbytes >= np.prod(t.shape) for t in bits)
    assert f"{bits[0].type} {'x'.join(map(str, bits[0].shape))}" in text_of(report)
    assert report.to_json()["steps"][0]["outputs"][0]["type"] == first.outputs[0].type


def test_the_text_says_what_the_schedule_of_each_kernel_chose(report):
    text = text_of(report, 400)
    assert all(any(f"  {step.note}" in line for line in text.splitlines()) for step in report.steps)


def test_layouts_by_measured_times_are_told(report):
    place = "image of z: apart, as measured, 0.90 of the time of the kernel that it would join"
    assert place not in text_of(report) and "Layouts decided" not in text_of(report)
    told = replace(report, assignment=[place])
    assert f"Layouts decided by the tuner's records: {place}." in text_of(told) and told.to_json()["assignment"] == [place]


def test_what_lies_between_kernels_is_told_with_its_type(report):
    kinds = [(m.kind, m.dtype) for m in report.maps]
    assert ("bits", "uint64") in kinds and all(kind == "bits" or dtype == "float32" for kind, dtype in kinds)
    outputs = {t["name"] for t in report.outputs}
    assert not outputs & {m.tensor for m in report.maps}
    assert all(m.nbytes == np.prod(m.shape) * np.dtype(m.dtype).itemsize for m in report.maps)
    assert "Tensors between kernels: 3 of bits" in " ".join(text_of(report).split())


def test_memory_is_what_the_compiled_library_has(report, tmp_path):
    metadata = compiled().save(tmp_path / "out")
    (variant,) = metadata["variants"]
    assert variant["entries"]["main"] == {"arena_bytes": report.memory.arena_bytes, "lower_bound_bytes": report.memory.lower_bound_bytes}
    assert metadata["constants_bytes"] == report.memory.constants_bytes


def test_packed_maps_have_the_size_of_their_words(report):
    maps = {m.tensor: m for m in report.packed}
    bits = maps["bits_1"]
    assert (bits.channels, bits.planes, bits.shape) == (70, 1, (1, 4, 4, 2))
    assert (bits.nbytes, bits.float_bytes) == (4 * 4 * 2 * 8, 4 * 4 * 70 * 4)


def test_every_kernel_call_is_told_with_the_operators_in_it(report):
    (step,) = [s for s in report.steps if "bits_1" in s.writes]
    assert [o.name for o in step.operators] == ["packed_conv2d", "quantize", "pack"]
    assert step.dtypes == ("uint64",) and not any(o.is_float for o in step.operators)
    assert step.note


def test_what_stays_float_beside_the_layers_is_counted():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["b"]), helper.make_node("Add", ["b", "x"], ["y"])]
    report = inspect_model(as_model(nodes, [], (1, 7), (1, 7)), target="native")
    assert report.float_operators == {name: {"count": 1, "elements": 7} for name in ("relu", "exp", "add")}
    assert "1 exp (7 elements)" in text_of(report) and "no convolution and no dense layer" in text_of(report)


@pytest.mark.parametrize("sign_zero, planes, said", [("exact", 2, "kept exactly"), ("plus", 1, "taken as +1"), ("minus", 1, "taken as -1")])
def test_a_plain_sign_is_told_with_what_becomes_of_its_zero(sign_zero, planes, said):
    stored = [numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")]
    nodes = [helper.make_node("Sign", ["x"], ["bits"]), helper.make_node("Conv", ["bits", "w"], ["y"], "binary")]
    report = inspect_model(as_model(nodes, stored, (1, 3, 2, 2), (1, 4, 2, 2)), target="native", sign_zero=sign_zero)
    assert report.sign_zeros == {"bits": 3} and [m.planes for m in report.packed] == [planes]
    assert said in text_of(report)


def test_a_sign_moved_in_front_of_a_pool_keeps_its_onnx_name():
    stored = [numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")]
    nodes = [
        helper.make_node("MaxPool", ["x"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Sign", ["pooled"], ["bits"]),
        helper.make_node("Conv", ["bits", "w"], ["y"], "binary"),
    ]
    assert set(inspect_model(as_model(nodes, stored, (1, 3, 4, 4), (1, 4, 2, 2)), target="native").sign_zeros) == {"bits"}


def test_a_binary_looking_layer_left_in_float_is_a_warning():
    signs = np.where(np.arange(12) % 5 % 2, -1, 1).reshape(4, 3, 1, 1)
    stored = [numpy_helper.from_array(signs.astype(np.float32), "w")]
    report = inspect_model(
        as_model([helper.make_node("Conv", ["x", "w"], ["y"], "lonely")], stored, (1, 3, 2, 2), (1, 4, 2, 2)), target="native"
    )
    assert any("lonely" in warning for warning in report.warnings)
    assert "warning: " in text_of(report) and "lonely" in text_of(report)


def test_the_text_has_a_line_a_layer_in_120_columns(report):
    lines = text_of(report, 120).splitlines()
    table = lines[lines.index("") + 1 :][: 1 + len(report.layers)]  # sentences are not broken where the text is no terminal's
    assert max(map(len, table)) <= 120 and table[0].startswith("layer ")
    for layer in report.layers:
        (line,) = [line for line in lines if line.startswith(layer.node + " ")]
        assert ("bits" in line) == layer.bits and line.rstrip().endswith("]")


def test_json_holds_everything(report):
    told = json.loads(json.dumps(report.to_json()))
    assert [row["bits"] for row in told["layers"]] == [False, True, True, True]
    assert told["totals"]["macs"] == sum(row["macs"] for row in told["layers"])
    assert set(told) >= {
        "name",
        "target",
        "variant",
        "inputs",
        "outputs",
        "memory",
        "packed",
        "steps",
        "sign_zeros",
        "warnings",
        "float_operators",
    }


def test_weights_computed_at_run_time_have_no_size():
    row = LayerRow("n", "MatMul", "y", False, "both operands are computed at run time", 64, 0, (1, 8), (1, 8))
    assert LayerEntry.of(row).float_weight_bytes == 0


@pytest.mark.parametrize(
    "nbytes, shown", [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12345, "12.3 kB"), (2_050_000, "2.05 MB"), (3_000_000_000, "3000 MB")]
)
def test_sizes_are_decimal_with_three_digits(nbytes, shown):
    assert size(nbytes) == shown


@pytest.mark.parametrize("number, shown", [(7, "7"), (5120, "5.12 k"), (59_500_000, "59.5 M"), (1_810_000_000, "1.81 G")])
def test_numbers_have_three_digits(number, shown):
    assert count(number) == shown


def test_a_kernel_too_many_is_an_internal_error():
    artifact = compiled()
    with pytest.raises(InternalError, match="kernel calls"):
        steps_of(artifact.fused, artifact.context, [("kernel", "")])


def test_errors_of_the_compiler_reach_the_caller(tmp_path):
    with pytest.raises(TargetError):
        inspect_model(binary_network(), target="pdp-11")
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFormatError):
        inspect_model(tmp_path / "x.onnx")
