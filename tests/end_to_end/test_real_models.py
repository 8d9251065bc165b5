"""The networks in ../shared/models, compiled for this machine: the reference's classes, and a binarized part that verify finds exact."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import bnncc
from bnncc.report.verify import verify_artifact

SHARED = Path(__file__).resolve().parents[3] / "shared"
SAMPLES = 100


@dataclass(frozen=True)
class Network:
    """A model with test data.

    Parameters
    ----------
    file : str
        Below shared/models.
    data, result : str
        Below shared/data: `x`, and the reference's `y`.
    prepare : callable
        From `x` to what the network takes, one sample a row.
    shape : tuple of int
        Of the input, for one sample.
    on_bits : tuple of int
        Layers that have to run on bits, and all.
    """

    file: str
    data: str
    result: str
    prepare: Callable
    shape: tuple[int, ...]
    on_bits: tuple[int, int]


def as_given(x):
    return x.astype(np.float32)


def fixed_point(x):
    pixels = x.transpose(0, 3, 1, 2).astype(np.int32)
    return (np.minimum(pixels - 128 + (pixels >= 128), 127) / 128).astype(np.float32)


def centred(x):
    return x.transpose(0, 3, 1, 2).astype(np.float32) - np.float32([123.68, 116.779, 103.939]).reshape(1, 3, 1, 1)


NETWORKS = {
    "gtsrb": Network("gtsrb_bnn_30.onnx", "gtsrb_test_30", "ref_gtsrb_bnn_30", as_given, (1, 30, 30, 3), (2, 3)),
    "tfc": Network("tfc_1w1a.onnx", "mnist_t10k_first1000", "ref_tfc_1w1a", lambda x: (x / 255).astype(np.float32), (1, 1, 28, 28), (4, 4)),
    "cnv": Network("cnv_w1a1_cifar10.onnx.xz", "cifar10_test_100", "ref_cnv_w1a1_cifar10_100", fixed_point, (1, 3, 32, 32), (8, 9)),
    "resnet18": Network(
        "bmxnet_resnet18_cifar10.onnx.xz", "cifar10_test_100", "ref_bmxnet_resnet18_cifar10_100", centred, (1, 3, 32, 32), (20, 22)
    ),
    "kws": Network(
        "kws_mlp_w3a3.onnx",
        "kws_gsc_1000",
        "ref_kws_mlp_w3a3",
        lambda x: x.astype(np.float32) * np.float32(0.33674246),
        (1, 1, 10, 49),
        (2, 4),
    ),
}
JPEG = {
    "cnv": ("cifar10_test_jpg_a", "ref_cnv_w1a1_cifar10"),
    "resnet18": ("cifar10_test_jpg_a", "ref_bmxnet_resnet18_cifar10"),
}
FAMILIES = {"bireal18_224": (16, 21), "boolnet": (19, 22)}


def model_file(name: str, folder: Path) -> Path:
    """Return an .onnx file, unpacked where it is an .xz, or skip."""
    path = SHARED / "models" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    if path.suffix != ".xz":
        return path
    unpacked = folder / path.stem
    unpacked.write_bytes(lzma.decompress(path.read_bytes()))
    return unpacked


def samples(network: Network, data: str, result: str) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, one a row of `shape`, and the reference's outputs."""
    with np.load(SHARED / "data" / f"{data}.npz") as given, np.load(SHARED / "data" / f"{result}.npz") as reference:
        return network.prepare(given["x"]).reshape(-1, *network.shape), reference["y"].reshape(len(given["x"]), -1)


def assert_classes(ours: np.ndarray, reference: np.ndarray) -> None:
    """Check that each class is the reference's; where its maxima are tied, any of them."""
    chosen = np.take_along_axis(reference, ours.argmax(1)[:, None], 1)[:, 0]
    behind = reference.max(1) - chosen
    assert np.flatnonzero(behind > 1e-5 * np.abs(reference).max(1)).tolist() == []


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile each network once."""
    known = {}

    def compile_once(name: str, file: str):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            path = model_file(file, folder)
            artifact = bnncc.compile(path, target="native")
            artifact.save(folder / "out")
            known[name] = artifact, bnncc.load(folder / "out")
        return known[name]

    return compile_once


@pytest.mark.parametrize("name", NETWORKS)
def test_its_class_is_the_references(compiled, name):
    network = NETWORKS[name]
    _, model = compiled(name, network.file)
    x, reference = samples(network, network.data, network.result)
    ours = np.concatenate([model(row) for row in x[:SAMPLES]]).reshape(-1, reference.shape[1])
    assert_classes(ours, reference[:SAMPLES])


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_its_class_is_the_references_on_all_samples(compiled, name):
    network = NETWORKS[name]
    _, model = compiled(name, network.file)
    x, reference = samples(network, *JPEG.get(name, (network.data, network.result)))
    ours = np.concatenate([model(row) for row in x]).reshape(-1, reference.shape[1])
    assert_classes(ours, reference)


@pytest.mark.parametrize("name", NETWORKS)
def test_its_binary_layers_run_on_bits(compiled, name):
    artifact, _ = compiled(name, NETWORKS[name].file)
    layers = artifact.report.layers
    assert (sum(layer.bits for layer in layers), len(layers)) == NETWORKS[name].on_bits
    assert all(layer.reason for layer in layers)


@pytest.mark.parametrize("name", NETWORKS)
def test_verify_finds_it_exact(compiled, name):
    network = NETWORKS[name]
    artifact, _ = compiled(name, network.file)
    x, _ = samples(network, network.data, network.result)
    report = verify_artifact(artifact, x[:3])
    assert report.ok and report.samples == 3
    assert report.outputs[0].other_class == 0
    assert report.totals["codes"] > 0 or network.on_bits[0] == 0  # integer layers have codes, too


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_gives_the_references_classes_and_verify_explains_what_differs(compiled, name):
    artifact, model = compiled(name, f"families/{name}.onnx.xz")
    with np.load(SHARED / "models" / "families" / f"{name}.npz") as data:
        x, reference = data["x"], data["y"]
    ours = np.stack([model(row) for row in x])
    assert_classes(ours.reshape(len(x), -1), reference.reshape(len(x), -1))
    apart = np.abs(ours - reference).reshape(len(x), -1).max(1) / np.abs(reference).max()
    cascaded = np.flatnonzero(apart > 1e-3)  # these networks are untrained: a sign that a float layer's rounding flips reaches the output
    assert len(cascaded) < len(x)
    report = verify_artifact(artifact, x[[0, *cascaded]])
    assert report.ok and report.totals["codes"] > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_binary_layers_run_on_bits(compiled, name):
    artifact, _ = compiled(name, f"families/{name}.onnx.xz")
    layers = artifact.report.layers
    assert (sum(layer.bits for layer in layers), len(layers)) == FAMILIES[name]


def test_an_image_network_of_few_bits_gives_the_references_image(compiled):
    artifact, model = compiled("espcn", "espcn_nn_resize_w4a4.onnx")
    with np.load(SHARED / "data" / "espcn_nn_resize_w4a4_io.npz") as data:
        x, reference = (data["x"] / 255).astype(np.float32), data["y"]
    ours = np.rint(model(x) * 255).astype(int)
    np.testing.assert_array_equal(ours, reference)
    assert not any(layer.bits for layer in artifact.report.layers) and all(layer.reason for layer in artifact.report.layers)
    assert verify_artifact(artifact, x).ok
