"""The committed example network is sound: size, interface, and accuracy by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "test.npz") as data:
        return data["images"].astype(np.float32)[:, None, None] / 16, data["labels"]


def test_file_is_small_enough_to_be_committed():
    assert (DIGITS / "digits.onnx").stat().st_size < 300_000


def test_model_is_valid_opset_17_and_keeps_its_binarization_in_the_graph():
    model = onnx.load(DIGITS / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    counts = {kind: sum(n.op_type == kind for n in model.graph.node) for kind in ("Conv", "Where", "MaxPool", "BatchNormalization", "Add")}
    # two binarized activations and two binarized weights; the stem's norm went into its weights
    assert counts == {"Conv": 3, "Where": 4, "MaxPool": 2, "BatchNormalization": 2, "Add": 1}


def test_test_split_holds_450_real_images_of_all_ten_digits(held_out):
    images, labels = held_out
    assert images.shape == (450, 1, 1, 8, 8)
    assert 0 <= images.min() and images.max() == 1
    assert np.bincount(labels).min() >= 40 and len(np.bincount(labels)) == 10


def test_onnxruntime_classifies_at_least_96_percent_of_the_test_images(held_out):
    images, labels = held_out
    session = ort.InferenceSession(DIGITS / "digits.onnx", providers=["CPUExecutionProvider"])
    predicted = [session.run(None, {"image": image})[0].argmax() for image in images]
    assert np.mean(predicted == labels) >= 0.96
