"""The layout pass on the real networks: same results, and no transpose but of inputs and outputs."""

from __future__ import annotations

import lzma
from pathlib import Path

import onnx
import pytest

from bnncc.frontend import import_onnx

from .layout_checks import canonical, operators

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"

MOVEMENT = {
    "tfc_1w1a": {"reshape": 1},
    "kws_mlp_w3a3": {"reshape": 1},
    "gtsrb_bnn_30": {"reshape": 1},  # its exporter put two pairs of transposes around its convolutions
    "cnv_w1a1_cifar10": {"permute_dims": 1, "reshape": 1},
    "bmxnet_resnet18_cifar10": {"permute_dims": 1, "reshape": 1},
    "espcn_nn_resize_w4a4": {"permute_dims": 2},
    "families/boolnet": {"permute_dims": 1, "reshape": 1, "take": 32},  # slices of a sign 20, channel shuffles 8, terms of a mean over slices 4
    "families/bireal18_224": {"permute_dims": 1, "reshape": 1},
}


def _model(name: str) -> onnx.ModelProto:
    plain, packed = MODELS / f"{name}.onnx", MODELS / f"{name}.onnx.xz"
    if plain.exists():
        return onnx.load(plain)
    if packed.exists():
        return onnx.load_model_from_string(lzma.decompress(packed.read_bytes()))
    pytest.skip(f"{name} is not in shared/models")


@pytest.mark.parametrize("name", MOVEMENT)
def test_a_real_network_moves_no_more_than_it_has_to(name):
    new, ctx = canonical(import_onnx(_model(name)).mod)
    found = operators(new)
    moves = {kind: found.count(kind) for kind in ("permute_dims", "reshape", "take", "expand_dims", "squeeze") if kind in found}
    assert moves == MOVEMENT[name]
    assert len(ctx.tensors) > 0.9 * len(found)
