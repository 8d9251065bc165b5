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
    maps = between_stem_and_head(inspected("boolnet", exporter))
    real = [m.shape for m in maps if m.kind != "bits"]
    assert len(maps) > 15 and real == [
        (1, 8, 8, 20)
    ]  # what the last convolution makes: of 80 channels a quarter, the term of the real sum that the head averages


def test_steps_between_stem_and_head_read_and_write_bits():
    """And what the last convolution makes, the real term of the head's average, is no larger than a tile of accumulators may be."""
    steps = inspected("boolnet", "dynamo").steps
    body = steps[1 : next(i for i, step in enumerate(steps) if any(o.name == "mean" for o in step.operators))]
    held = {t for step in body for t in (*step.inputs, *step.outputs)}
    real = {t for t in held if not t.type.startswith("1-bit") and not t.type.startswith("uint64")}
    assert len(held) > 20 and [t.shape for t in real] == [(20, 8, 8)]
    assert all(t.nbytes <= 16 * 1024 for t in real)


def test_local_adaptive_shifting_keeps_only_the_stem_real():
    report = inspected("boolnet_las", "dynamo")
    assert [m.shape for m in between_stem_and_head(report) if m.kind != "bits"] == [(1, 8, 8, 20)]
    # of 12 channels each, in front of the first sign: what is pooled, and what two BatchNorms make of it
    before = [m.shape for m in report.maps if m.kind == "float" and m.shape[-1] == 12]
    assert sorted(before) == [(1, 16, 16, 12), (1, 16, 16, 12), (1, 32, 32, 12)]


def test_boolean_feature_maps_take_an_eighth_of_the_memory_of_real_ones():
    boolean, real = (inspected(name, "torchscript") for name in ("boolnet", "boolnet_float"))
    assert 8 * boolean.memory.arena_bytes < real.memory.arena_bytes
