"""Real trained networks: they import, and their references give the published results."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import onnx
import pytest

from bnncc.frontend import ImportedModel, import_onnx

from .comparing import run_onnx, tensor_differences

SHARED = Path(__file__).resolve().parents[3] / "shared"
F = np.float32


def _fixed_point(pixels: np.ndarray) -> np.ndarray:
    return (np.minimum(pixels.astype(np.int16) - 128 + (pixels >= 128), 127) / F(128)).astype(F).transpose(0, 3, 1, 2)


def _centred(pixels: np.ndarray) -> np.ndarray:
    return (pixels.astype(F) - np.asarray([123.68, 116.779, 103.939], F)).transpose(0, 3, 1, 2)


# model: data, preprocessing
LABELLED = {
    "gtsrb_bnn_30": ("gtsrb_test_30", lambda d: d["x"].astype(F)),
    "tfc_1w1a": ("mnist_t10k_first1000", lambda d: (d["x"].astype(F) / F(255))[:, None]),
    "cnv_w1a1_cifar10": ("cifar10_test_jpg_a", lambda d: _fixed_point(d["x"])),
    "bmxnet_resnet18_cifar10": ("cifar10_test_jpg_a", lambda d: _centred(d["x"])),
    "kws_mlp_w3a3": ("kws_gsc_1000", lambda d: (d["x"].astype(F) * d["scale"]).astype(F).reshape(-1, 1, 10, 49)),
}


def _load(name: str) -> onnx.ModelProto:
    for path in (
        SHARED / "models" / f"{name}.onnx",
        SHARED / "models" / f"{name}.onnx.xz",
        SHARED / "models" / "families" / f"{name}.onnx.xz",
    ):
        if path.exists():
            data = path.read_bytes()
            return onnx.load_model_from_string(lzma.decompress(data) if path.suffix == ".xz" else data)
    pytest.skip(f"{name} is not in shared/models")


def _leftovers(imported: ImportedModel) -> set[str]:
    return {n.op_type for n in imported.folded.graph.node} & {
        "Shape",
        "Gather",
        "Constant",
        "ConstantOfShape",
        "Identity",
        "Cast",
        "Quant",
        "BipolarQuant",
        "Expand",
    }


@pytest.mark.parametrize("name", LABELLED)
def test_the_reference_of_a_trained_network_gives_its_published_outputs(name: str) -> None:
    model, (data, prepare) = _load(name), LABELLED[name]
    imported = import_onnx(model)
    (given,) = imported.inputs
    x = np.ascontiguousarray(prepare(np.load(SHARED / "data" / f"{data}.npz"))[:20])
    expected = np.load(SHARED / "data" / f"ref_{name}.npz")["y"][:20].reshape(20, -1)
    got = np.concatenate([run_onnx(imported.reference, {given.name: x[i : i + 1]})[0].reshape(1, -1) for i in range(20)])
    if name == "kws_mlp_w3a3":  # this one's outputs were computed by qonnx: NumPy sums its products in another order
        assert np.allclose(got, expected, rtol=1e-5, atol=1e-5)
    else:
        assert np.allclose(got, expected, rtol=0, atol=1e-30)
    assert _leftovers(imported) == set()
    assert tensor_differences(imported, {given.name: x[:1]}, 1e-4) == []


def test_the_reference_of_the_super_resolution_network_gives_its_published_image() -> None:
    model = _load("espcn_nn_resize_w4a4")
    imported, data = import_onnx(model), np.load(SHARED / "data" / "espcn_nn_resize_w4a4_io.npz")
    got = run_onnx(imported.reference, {imported.inputs[0].name: data["x"].astype(F) / F(255)})[0]
    assert np.array_equal(np.rint(got * 255), data["y"].astype(F))
    assert _leftovers(imported) == set()


@pytest.mark.parametrize("name", ["bireal18_224", "boolnet"])
def test_the_reference_of_an_exported_family_gives_its_outputs(name: str) -> None:
    model = _load(name)
    imported, data = import_onnx(model), np.load(SHARED / "models" / "families" / f"{name}.npz")
    got = run_onnx(imported.reference, {"x": data["x"][0]})[0]
    assert np.allclose(got, data["y"][0], rtol=1e-5, atol=1e-5)
    assert _leftovers(imported) <= {"Cast"}  # the polynomial straight-through estimator of bireal18 holds comparisons


def test_each_real_variable_holds_its_tensor() -> None:
    imported = import_onnx(_load("tfc_1w1a"))
    assert set(imported.tensors.values()) >= {"0", "74"}
    assert {info.op_type for info in imported.nodes.values()} >= {"BipolarQuant", "MatMul", "BatchNormalization"}
