"""Random binary networks give onnxruntime's very bits, whatever they are put together from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings

from end_to_end.random_graphs import RandomNetwork, binary_networks, describe
from patterns.comparing import compare, fail_on, misplaced
from patterns.running import reference, sample_inputs

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


def _equals_the_reference(network: RandomNetwork) -> None:
    note(describe(network.model))
    with tempfile.TemporaryDirectory() as folder:
        artifact, wrong = compare(network.model, Path(folder) / "out", rtol=0, atol=0)
        fail_on(wrong + misplaced(artifact, {name: True for name in network.bits}))


@settings(max_examples=15, derandomize=True, **COMMON)
@given(binary_networks())
def test_a_random_network_equals_onnxruntime(network: RandomNetwork) -> None:
    _equals_the_reference(network)


@pytest.mark.slow
@settings(max_examples=300, **COMMON)
@given(binary_networks(most_layers=6))
def test_many_random_networks_equal_onnxruntime(network: RandomNetwork) -> None:
    _equals_the_reference(network)


@settings(max_examples=50, derandomize=True, **COMMON)
@given(binary_networks(most_layers=6))
def test_the_reference_of_a_random_network_is_exact(network: RandomNetwork) -> None:
    """All results lie on a grid that float32 resolves, so that equality may be asked for; see the module's docstring."""
    note(describe(network.model))
    for y in reference(network.model, sample_inputs(network.model, 0)).values():
        assert np.isfinite(y).all()
        assert (y * 2.0**16 == np.round(y * 2.0**16)).all()
