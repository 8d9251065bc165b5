"""What BoolNet is for: feature maps of bits alone, and the memory that saves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bnncc.report.inspect import inspect_model

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "zoo"))
from catalog import find_family  # noqa: E402


def inspected(name: str, exporter: str):
    (path,) = (p for p in find_family(name).models if p.stem == exporter)
    return inspect_model(path, target="x86-64-v3")


def between_stem_and_head(report) -> list:
    """Return the maps from the first of bits to the last."""
    places = [i for i, m in enumerate(report.maps) if m.kind == "bits"]
    return report.maps[places[0] : places[-1] + 1]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_every_feature_map_between_stem_and_head_is_of_bits(exporter):
    report = inspected("boolnet", exporter)
    assert {m.kind for m in between_stem_and_head(report)} == {"bits"}
    # beside the image, as given and padded, only the pooled features of the head are real
    real = sorted(m.shape for m in report.maps if m.kind != "bits")
    assert real == [(1, 1, 1, 192), (1, 32, 32, 3), (1, 34, 34, 3)]


def test_local_adaptive_shifting_keeps_only_its_narrow_accumulators_real():
    real = [m for m in between_stem_and_head(inspected("boolnet_las", "dynamo")) if m.kind != "bits"]
    assert {m.shape[-1] for m in real} == {12} and len(real) == 2  # of 48 channels, in front of the convolution and padded for it


def test_boolean_feature_maps_take_less_memory_than_real_ones():
    boolean, real = (inspected(name, "dynamo") for name in ("boolnet", "boolnet_float"))
    assert 5 * boolean.memory.arena_bytes < real.memory.arena_bytes
    largest = [max(m.nbytes for m in between_stem_and_head(r)) for r in (boolean, real)]
    assert 4 * largest[0] < largest[1]
