"""The corpus itself: valid ONNX that onnxruntime runs, with the values the document gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from .branches import activation_branches, weight_branches
from .catalog import ACTIVATIONS, NETWORKS, WEIGHTS
from .onnx_graph import IR_OF_OPSET, Graph, Tensor
from .running import reference, sample_inputs

OPSETS = [pytest.param(v, marks=[] if v in (9, 13, 18, 21) else pytest.mark.slow) for v in range(9, 22)]


def _activation_alone(name: str, size: int) -> onnx.ModelProto:
    g = Graph(17, twin=True)
    x = g.input("x", [1, 8, size, size])
    g.output(ACTIVATIONS[name].emit(g, Tensor(x.name, 8)), "y", [1, 8, size, size])
    return g.model()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_takes_its_documented_value_at_zero(name: str) -> None:
    expected = ACTIVATIONS[name].at_zero
    y = reference(_activation_alone(name, 4), {"x": np.zeros((1, 8, 4, 4), np.float32)})["y"]
    assert (y == expected).all() if expected == expected and expected is not None else expected is None or np.isnan(y).all()


@pytest.mark.parametrize("name", [name for name, a in ACTIVATIONS.items() if a.values])
def test_an_activation_takes_no_value_but_the_documented_ones(name: str) -> None:
    x = np.random.default_rng(0).integers(-256, 257, (1, 8, 32, 32)).astype(np.float32) / 64
    if ACTIVATIONS[name].at_zero != ACTIVATIONS[name].at_zero:
        x[x == 0] = 1
    y = reference(_activation_alone(name, 32), {"x": x})["y"]
    met = {min(ACTIVATIONS[name].values, key=lambda level: abs(level - v)) for v in np.unique(y)}
    assert np.abs(np.asarray([[v - level for level in ACTIVATIONS[name].values] for v in np.unique(y)])).min(axis=1).max() < 1e-6
    unmet = set(ACTIVATIONS[name].values) - met
    assert not unmet or (unmet == {0.0} and "run-time thresholds" in ACTIVATIONS[name].source)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_expression_has_one_magnitude_a_channel_unless_it_may_stay_float(name: str) -> None:
    g = Graph(17)
    g.output(g.node("Identity", WEIGHTS[name].emit(g, (6, 8, 3, 3))), "w", [6, 8, 3, 3])
    filters = np.abs(reference(g.model(), {})["w"].reshape(6, -1))
    one_magnitude = np.ptp(filters, axis=1).max() <= 1e-3 * filters.max()
    assert one_magnitude == (WEIGHTS[name].packs is True)


def test_exact_zeros_reach_every_activation_but_the_one_that_is_nan_there() -> None:
    names = list(ACTIVATIONS)
    model = activation_branches(names, twin=True)
    norms = [node.output[0] for node in model.graph.node if node.op_type == "BatchNormalization"]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in norms)
    values = reference(model, sample_inputs(model, 0))
    for name, first in zip(names, norms[::2]):
        zeros = np.count_nonzero(values[first] == 0)
        assert zeros == 0 if name == "x_over_abs" else zeros > 20, name


@pytest.mark.parametrize("opset", OPSETS)
def test_every_spelling_of_an_opset_is_valid_and_runs(opset: int) -> None:
    for model in (
        activation_branches([n for n, a in ACTIVATIONS.items() if a.opset <= opset], opset=opset, twin=True),
        weight_branches([n for n, w in WEIGHTS.items() if w.opset <= opset], opset=opset),
    ):
        onnx.checker.check_model(model)
        assert all(np.isfinite(y).all() and y.std() > 0.1 for y in reference(model, sample_inputs(model, 1)).values())


@pytest.mark.parametrize("opset", OPSETS)
def test_every_network_of_an_opset_is_valid_and_runs(opset: int) -> None:
    for network in NETWORKS.values():
        if network.opset <= opset:
            model = network.model(opset, twin=True)
            onnx.checker.check_model(model)
            outputs = reference(model, sample_inputs(model, 1))
            assert all(np.isfinite(y).all() and y.std() > 0.1 for y in outputs.values()), network.name


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_a_network_names_nodes_that_it_has(network: object) -> None:
    names = {node.name for node in network.model().graph.node}
    assert set(network.bits) | set(network.floats) <= names


def test_a_model_of_ir_3_lists_its_weights_as_inputs() -> None:
    model = weight_branches(["plain_signs"], opset=9, ir=3)
    assert {t.name for t in model.graph.initializer} < {v.name for v in model.graph.input}
    assert IR_OF_OPSET[9] == 4 and weight_branches(["plain_signs"], opset=9).ir_version == 4
