"""Every row of the import-pattern document compiles, computes what onnxruntime computes, and runs on bits where it has to.

Several spellings share a model, each with an output and nodes of its own name: a failure says which spelling it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnncc.frontend import import_onnx

from .branches import activation_branches, weight_branches
from .catalog import ACTIVATIONS, NETWORKS, WEIGHTS, in_bundles
from .comparing import compare, fail_on, misplaced
from .running import reference, sample_inputs
from .spelling import Activation, Weight

BUNDLE = 4
ACTIVATION_BUNDLES = in_bundles(list(ACTIVATIONS), BUNDLE)
WEIGHT_BUNDLES = in_bundles(list(WEIGHTS), BUNDLE)


def _expected_bits(spellings: list[Activation] | list[Weight]) -> dict[str, bool]:
    """Return where each layer belongs; codes of more than -1, 0, +1 meet float sums in the second, whose result leaves the network."""
    wide = {s.name: isinstance(s, Activation) and len(s.values) > 3 for s in spellings}
    return {f"{s.name}/conv{i}": s.packs and not (wide[s.name] and i == 2) for s in spellings for i in (1, 2) if s.packs is not None}


def _check_activations(names: list[str], opset: int, folder: Path) -> None:
    model = activation_branches(names, opset=opset)
    artifact, wrong = compare(model, folder, twin=activation_branches(names, opset=opset, twin=True))
    fail_on(wrong + misplaced(artifact, _expected_bits([ACTIVATIONS[n] for n in names])))


def _check_weights(names: list[str], opset: int, folder: Path, **spelling: bool | int) -> None:
    artifact, wrong = compare(weight_branches(names, opset=opset, **spelling), folder)
    fail_on(wrong + misplaced(artifact, _expected_bits([WEIGHTS[n] for n in names])))


def _check_network(name: str, opset: int, folder: Path) -> None:
    network = NETWORKS[name]
    options = {"shapes": {"x": (2, 3, 8, 12)}} if name == "dynamic_shape" else {}
    artifact, wrong = compare(network.model(opset), folder, twin=network.model(opset, twin=True), **options)
    expected = {node: True for node in network.bits} | {node: False for node in network.floats}
    fail_on(wrong + misplaced(artifact, expected))


@pytest.mark.parametrize("names", ACTIVATION_BUNDLES, ids=",".join)
def test_an_activation_spelling_is_recognised_and_right(names: list[str], tmp_path: Path) -> None:
    _check_activations(names, 17, tmp_path / "out")


@pytest.mark.parametrize("names", WEIGHT_BUNDLES, ids=",".join)
def test_a_weight_spelling_is_recognised_and_right(names: list[str], tmp_path: Path) -> None:
    _check_weights(names, 17, tmp_path / "out")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_recognised_and_right(name: str, tmp_path: Path) -> None:
    _check_network(name, 17, tmp_path / "out")


@pytest.mark.parametrize("opset", [9, 21])
def test_the_oldest_and_the_newest_opset_are_recognised(opset: int, tmp_path: Path) -> None:
    _check_activations(["where_ge", "polynomial_ste", "detach_ste", "larq_where"], opset, tmp_path / "activations")
    _check_weights(["mean_abs_sign", "hard_binary_conv", "sign_of_centred"], opset, tmp_path / "weights")


@pytest.mark.parametrize("ir", [3, 10])
def test_weights_repeated_as_graph_inputs_are_constants(ir: int, tmp_path: Path) -> None:
    names = ["plain_signs", "mean_abs_sign", "batch_norm_folded"]
    _check_weights(names, 9 if ir == 3 else 21, tmp_path / "out", ir=ir, weights_as_inputs=True)


@pytest.mark.parametrize("name", [name for name, a in ACTIVATIONS.items() if a.custom])
def test_the_reference_of_a_custom_domain_is_the_definition_of_its_operator(name: str) -> None:
    model, twin = (activation_branches([name], twin=twin) for twin in (False, True))
    feeds = sample_inputs(model, 0)
    expected = reference(twin, feeds)
    for output, actual in reference(import_onnx(model).reference, feeds).items():
        np.testing.assert_array_equal(actual, expected[output])


@pytest.mark.parametrize(("sign_zero", "same_as"), [("plus", "where_ge"), ("minus", "where_gt")])
def test_sign_zero_moves_the_zero_of_a_plain_sign(sign_zero: str, same_as: str, tmp_path: Path) -> None:
    """The same network with the comparison in place of Sign draws the same constants, so it is the expected value."""
    model, expected = (activation_branches([name], twin=True) for name in ("torch_sign", same_as))
    for node in expected.graph.node:
        node.output[:] = ["y_torch_sign" if name == f"y_{same_as}" else name for name in node.output]
    expected.graph.output[0].name = "y_torch_sign"
    artifact, wrong = compare(model, tmp_path / "out", twin=expected, sign_zero=sign_zero)
    fail_on(wrong + misplaced(artifact, {"torch_sign/conv1": True, "torch_sign/conv2": True}))


@pytest.mark.slow
@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21])
@pytest.mark.parametrize("names", in_bundles(list(ACTIVATIONS), 8), ids=",".join)
def test_every_activation_spelling_at_every_opset(names: list[str], opset: int, tmp_path: Path) -> None:
    if spelled := [name for name in names if ACTIVATIONS[name].opset <= opset]:
        _check_activations(spelled, opset, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21])
@pytest.mark.parametrize("names", in_bundles(list(WEIGHTS), 8), ids=",".join)
def test_every_weight_spelling_at_every_opset(names: list[str], opset: int, tmp_path: Path) -> None:
    if spelled := [name for name in names if WEIGHTS[name].opset <= opset]:
        _check_weights(spelled, opset, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "opset"), [(name, v) for v in (9, 11, 13, 18, 21) for name, n in NETWORKS.items() if n.opset <= v])
def test_every_network_at_other_opsets(name: str, opset: int, tmp_path: Path) -> None:
    _check_network(name, opset, tmp_path / "out")
