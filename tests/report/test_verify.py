"""verify finds a sound model exact, any single wrong bit, threshold or weight, and tells ties from errors."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from rich.console import Console

from bnncc.errors import InputError
from bnncc.report.verify import verify_artifact, verify_model
from bnncc.runtime import CompiledModel

from .network import SHAPE, as_model, binary_network, compiled, corrupted, images


def row_of(report, tensor):
    (row,) = [row for row in report.sections if row.tensor == tensor]
    return row


def wrong(report):
    return {row.tensor for row in report.sections if not row.ok}


def text_of(report, width=120):
    console = Console(file=io.StringIO(), width=width)
    report.to_text(console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def artifact():
    return compiled()


@pytest.fixture
def flip(monkeypatch):
    """Return a function that makes a section's output wrong: ``flip(entry, number of the output, change)``."""
    original = CompiledModel.run_entry

    def arrange(entry, number, change):
        def run_entry(self, name, *arrays):
            results = original(self, name, *arrays)
            if name == entry:
                results[number] = change(results[number].copy())
            return results

        monkeypatch.setattr(CompiledModel, "run_entry", run_entry)

    return arrange


def test_a_sound_model_is_exact_in_every_quantized_tensor(artifact):
    report = verify_artifact(artifact, images(5))
    assert report.ok and report.samples == 5
    assert {row.tensor for row in report.sections if row.is_code} >= {"bits_0", "bits_1", "bits_2"}
    assert [row_of(report, f"bits_{i}").elements for i in range(3)] == [5 * 8 * 6 * 6, 5 * 70 * 4 * 4, 5 * 9 * 2 * 2]
    assert all(row.differing == row.ties == row.zeros == 0 for row in report.sections)
    assert report.outputs[0].same_class == report.outputs[0].rows == 5 and report.outputs[0].max_abs_difference < 1e-4


def thresholds_of(tensor, shape, channel, by):
    """Return a change of one channel's integer threshold in the kernel that makes `tensor`."""

    def change(variable, array):
        if not variable.startswith(tensor) or array.dtype != np.int32 or array.shape != shape:
            return None
        array = array.copy()
        array[0, channel] += by
        return array

    return change


def test_a_threshold_that_is_off_by_one_level_is_found_in_its_channel(artifact):
    broken = corrupted(artifact, thresholds_of("bits_1", (1, 70), 66, 2))  # sums of 72 signs are even: the next level is 2 further
    report = verify_artifact(broken, images(20))
    assert not report.ok and wrong(report) == {"bits_1"}
    row = row_of(report, "bits_1")
    assert set(row.differing_by_channel) == {66} and not row.ties


def test_a_single_wrong_weight_bit_is_found_in_its_channel_and_not_passed_on(artifact):
    def change(variable, array):
        if not variable.startswith("bits_2") or array.dtype != np.uint64:
            return None
        array = array.copy()
        assert array.shape == (9, 3, 3, 2)
        array[4, 1, 2, 0] ^= np.uint64(1 << 17)
        return array

    report = verify_artifact(corrupted(artifact, change), images(20))
    assert not report.ok and wrong(report) == {"bits_2"}
    assert set(row_of(report, "bits_2").differing_by_channel) == {4}


def test_a_wrong_weight_bit_before_a_float_output_is_found(artifact):
    def change(variable, array):
        if variable != "y" or array.dtype != np.uint64:
            return None
        array = array.copy()
        array[2, 0] ^= np.uint64(1)
        return array

    report = verify_artifact(corrupted(artifact, change), images(2))
    assert not report.ok and wrong(report) == {"y"} and set(row_of(report, "y").differing_by_channel) == {2}
    assert "DIFFERENT" in text_of(report) and report.to_json()["ok"] is False


def entry_of(artifact, tensor):
    """Return the section that makes a tensor, and which of its outputs it is."""
    report = verify_artifact(artifact, images(1))
    entry = row_of(report, tensor).section
    return entry, [row.tensor for row in report.sections if row.section == entry].index(tensor)


def test_bits_behind_the_last_channel_are_found(artifact, flip):
    def set_a_tail_bit(words):
        words[..., 1] |= np.uint64(1 << 6)  # channel 70 of 70
        return words

    flip(*entry_of(artifact, "bits_1"), set_a_tail_bit)
    report = verify_artifact(artifact, images(1))
    row = row_of(report, "bits_1")
    assert not report.ok and row.differing == 0 and row.broken_words == 4 * 4
    assert "behind their last channel" in text_of(report)


def near_zero_network():
    """Return a 1x1 Conv of three channels that adds the first two takes the third off, and a Sign as x >= 0."""
    stored = [numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("plus", 1), ("minus", -1))]
    stored.append(numpy_helper.from_array(np.float32([[1, 1, -1], [1, -1, -1]]).reshape(2, 3, 1, 1), "w"))
    stored.append(numpy_helper.from_array(np.float32([[1, -1], [1, 1]]).reshape(2, 2, 1, 1), "v"))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["sum"], "stem"),
        helper.make_node("GreaterOrEqual", ["sum", "zero"], ["test"]),
        helper.make_node("Where", ["test", "plus", "minus"], ["bits"]),
        helper.make_node("Conv", ["bits", "v"], ["y"], "binary"),
    ]
    return as_model(nodes, stored, (1, 3, 1, 3), (1, 2, 1, 3))


REAL = [[0.1, 0.2, 0.3], [1, 2, 3.5], [0.1, 0.2, 0.5]]
WHOLE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
"""Three pixels each. The first of each sums to 0, of REAL only within rounding (0.1 + 0.2 - 0.3)."""


@pytest.mark.parametrize(
    "pixels, pixel, is_tie", [(REAL, 0, True), (WHOLE, 0, False), (REAL, 2, False)], ids=["within rounding", "exactly 0", "far away"]
)
def test_a_different_bit_is_a_tie_only_where_float_rounding_leaves_it_open(flip, pixels, pixel, is_tie):
    artifact, x = compiled(near_zero_network()), np.float32(pixels).T.reshape(1, 3, 1, 3)

    def flip_first_channel(words):
        words[0, 0, pixel, 0] ^= np.uint64(1)
        return words

    sound = verify_artifact(artifact, x)
    assert sound.ok and not sound.totals["ties"]
    entry = row_of(sound, "bits").section
    flip(entry, [row.tensor for row in sound.sections if row.section == entry].index("bits"), flip_first_channel)
    report = verify_artifact(artifact, x)
    row = row_of(report, "bits")
    assert report.ok is is_tie
    assert (row.ties_by_channel, row.differing_by_channel) == (({0: 1}, {}) if is_tie else ({}, {0: 1}))
    assert f"{'ties' if is_tie else 'differ'} in channel 0: 1" in text_of(report)


def signs_network():
    """Return Sign of the input, a binary Conv."""
    stored = [numpy_helper.from_array(np.random.default_rng(0).choice([-1, 1], (4, 3, 1, 1)).astype(np.float32), "w")]
    nodes = [helper.make_node("Sign", ["x"], ["bits"], "sign"), helper.make_node("Conv", ["bits", "w"], ["y"], "binary")]
    return as_model(nodes, stored, (1, 3, 2, 2), (1, 4, 2, 2))


@pytest.mark.parametrize("choice, zeros", [("exact", {}), ("plus", {0: 1, 2: 2}), ("minus", {0: 1, 2: 2})])
def test_zeros_of_a_plain_sign_are_told_by_channel_and_are_no_errors(choice, zeros):
    x = np.float32([[1, 0, -2, 3], [1, 1, 1, -1], [0, 5, 0, -5]]).reshape(1, 3, 2, 2)
    report = verify_model(signs_network(), inputs=x, sign_zero=choice)
    assert report.ok and row_of(report, "bits").zeros_by_channel == zeros
    assert (report.outputs[0].max_abs_difference > 0) == (choice != "exact")
    assert ("--sign-zero" in text_of(report)) == (choice != "exact")


@pytest.mark.parametrize("choice", ["plus", "minus"])
def test_a_tensor_of_bools_on_bits_needs_no_decision(choice):
    """(x >= 0) and (x <= 1) by logic on bits, chosen as -1 or +1 only behind it."""
    stored = [numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("plus", 1), ("minus", -1))]
    stored.append(numpy_helper.from_array(np.random.default_rng(0).choice([-1, 1], (4, 3, 1, 1)).astype(np.float32), "w"))
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["a"]),
        helper.make_node("Conv", ["x", "w"], ["sum"]),
        helper.make_node("GreaterOrEqual", ["sum", "zero"], ["many"]),
        helper.make_node("Slice", ["many", "from", "to", "axis"], ["b"]),
        helper.make_node("And", ["a", "b"], ["both"]),
        helper.make_node("Where", ["both", "plus", "minus"], ["bits"]),
        helper.make_node("Conv", ["bits", "w"], ["y"]),
    ]
    stored += [numpy_helper.from_array(np.int64([v]), n) for n, v in (("from", 0), ("to", 3), ("axis", 1))]
    x = np.random.default_rng(1).normal(size=(1, 3, 2, 2)).astype(np.float32)
    report = verify_model(as_model(nodes, stored, (1, 3, 2, 2), (1, 4, 2, 2)), inputs=x, sign_zero=choice)
    assert report.ok and report.totals["codes"] > 0 and report.totals["zeros"] == 0


def test_a_float_network_has_no_binarized_part_and_a_wrong_layer_of_it_is_found():
    rng = np.random.default_rng(3)
    stored = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in (("w", (4, 6)), ("b", (4,)))]
    artifact = compiled(as_model([helper.make_node("Gemm", ["x", "w", "b"], ["y"], "dense", transB=1)], stored, (1, 6), (1, 4)))
    x = rng.normal(size=(3, 6)).astype(np.float32)
    report = verify_artifact(artifact, x)
    assert report.ok and report.totals["codes"] == 0 and "no binarized part" in text_of(report)
    broken = corrupted(artifact, lambda variable, array: array + np.float32([0, 0, 0.01, 0]) if array.size == 4 else None)
    report = verify_artifact(broken, x)
    assert not report.ok and set(row_of(report, "y").differing_by_channel) == {2}


def test_an_input_without_axes_is_verified_like_any_other():
    inputs = [helper.make_tensor_value_info("x", 1, [1, 8]), helper.make_tensor_value_info("scale", 1, [])]
    nodes = [helper.make_node("Exp", ["scale"], ["e"]), helper.make_node("Mul", ["x", "e"], ["y"])]
    graph = helper.make_graph(nodes, "scaled", inputs, [helper.make_tensor_value_info("y", 1, [1, 8])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rng = np.random.default_rng(0)
    report = verify_model(model, inputs={"x": rng.standard_normal((3, 8), np.float32), "scale": rng.standard_normal(3, np.float32)})
    assert report.ok and report.samples == 3 and report.outputs[0].max_abs_difference < 1e-5


def test_the_report_is_json_and_its_text_ends_with_the_result(artifact):
    report = verify_artifact(artifact, images(2))
    told = json.loads(json.dumps(report.to_json()))
    assert told["ok"] is True and told["samples"] == 2 and told["layers"] == 4 and told["bit_layers"] == 3
    assert {row["tensor"] for row in told["sections"]} >= {"bits_0", "bits_1", "bits_2", "y"}
    assert text_of(report, 160).strip().splitlines()[-1].startswith("OK: the binarized part equals the ONNX model bit for bit")


def test_limit_checks_the_first_samples_only(artifact):
    assert verify_artifact(artifact, images(5), limit=2).samples == 2


def test_progress_is_told_sample_by_sample():
    seen = []
    verify_model(binary_network(), inputs=images(3), progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "verify"] == [("verify", i, 3) for i in (1, 2, 3)]


def test_samples_of_another_shape_are_an_error(artifact):
    with pytest.raises(InputError, match="shape \\[2, 3, 6, 7\\]"):
        verify_artifact(artifact, np.zeros((2, 3, 6, 7), np.float32))


def test_the_model_is_not_changed(artifact):
    before = artifact.model.reference.SerializeToString(deterministic=True)
    verify_artifact(artifact, images(1))
    assert artifact.model.reference.SerializeToString(deterministic=True) == before
    assert [f.name_hint for f in artifact.fused.get_global_vars() if f.name_hint.startswith("section")] == []
    assert isinstance(artifact.model.reference, onnx.ModelProto) and artifact.model.inputs[0].shape == SHAPE
