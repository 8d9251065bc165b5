"""Random binary networks give onnxruntime's very bits, whatever they are put together from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from patterns.comparing import fail_on
from patterns.running import reference, sample_inputs

from end_to_end.isolated import Isolated
from end_to_end.random_graphs import RandomNetwork, binary_networks, describe

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    """The worker in which networks are compiled and run."""
    worker = Isolated()
    yield worker
    worker.close()


def _equals_the_reference(network: RandomNetwork, isolated: Isolated) -> None:
    note(describe(network.model))
    fail_on(isolated.problems(network.model, network.bits))


@settings(max_examples=15, derandomize=True, **COMMON)
@given(network=binary_networks())
def test_a_random_network_equals_onnxruntime(isolated: Isolated, network: RandomNetwork) -> None:
    _equals_the_reference(network, isolated)


@pytest.mark.slow
@settings(max_examples=300, **COMMON)
@given(network=binary_networks(most_layers=6))
def test_many_random_networks_equal_onnxruntime(isolated: Isolated, network: RandomNetwork) -> None:
    _equals_the_reference(network, isolated)


def _is_exact(network: RandomNetwork) -> None:
    note(describe(network.model))
    for y in reference(network.model, sample_inputs(network.model, 0)).values():
        assert np.isfinite(y).all()
        assert (y * 2.0**16 == np.round(y * 2.0**16)).all()


@settings(max_examples=15, derandomize=True, **COMMON)
@given(binary_networks(most_layers=6))
def test_the_reference_of_a_random_network_is_exact(network: RandomNetwork) -> None:
    """All results lie on a grid that float32 resolves, so that equality may be asked for; see the module's docstring."""
    _is_exact(network)


@pytest.mark.slow
@settings(max_examples=300, **COMMON)
@given(binary_networks(most_layers=6))
def test_the_reference_of_many_random_networks_is_exact(network: RandomNetwork) -> None:
    _is_exact(network)
