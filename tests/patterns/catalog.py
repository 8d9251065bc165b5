"""The whole corpus: importing this module fills the tables."""

from __future__ import annotations

from . import activations, activations_custom, activations_kbit, activations_published, networks_logic, networks_published, networks_structure, weights  # noqa: F401 (they enter themselves)  # noqa: F401
from .networks import NETWORKS
from .spelling import ACTIVATIONS, WEIGHTS

__all__ = ["ACTIVATIONS", "NETWORKS", "WEIGHTS", "in_bundles"]


def in_bundles(names: list[str], size: int) -> list[list[str]]:
    """Cut a list of names into lists of `size`, so that one model tests several spellings."""
    return [names[i : i + size] for i in range(0, len(names), size)]
