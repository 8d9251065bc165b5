"""Every network of examples/zoo compiles, is exact, and runs on bits what its family.toml says; the table in docs agrees."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from report.network import corrupted

from bnncc.compiler import compile
from bnncc.report.verify import verify_artifact

ZOO = Path(__file__).resolve().parents[2] / "examples" / "zoo"
sys.path.append(str(ZOO))
from catalog import families  # noqa: E402
from table import DOCS, compiled_facts, read_record, render  # noqa: E402

FILES = [(family, path) for family in families() for path in family.models]


@pytest.mark.parametrize(("family", "path"), FILES, ids=[f"{family.name}-{path.stem}" for family, path in FILES])
def test_a_network_is_exact_and_on_bits_where_its_family_can_be(family, path):
    artifact = compile(path, target="native")
    unexpected = [w for w in artifact.warnings if not any(part in w for part in family.warnings)]
    assert not unexpected
    facts = compiled_facts(artifact)
    expected = family.expected(path.stem)
    assert {name: facts[name] for name in expected} == expected, [(row.node, row.reason) for row in artifact.context.layers]
    recorded = read_record(family.name)["files"][path.stem]
    assert {name: recorded[name] for name in facts} == facts, "run: python examples/zoo/table.py " + family.name
    report = verify_artifact(artifact, family.samples())
    assert report.ok, report.totals
    assert report.totals["codes"] > 0 or not any(row.bits or row.integer for row in artifact.context.layers)


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")), reason="qemu-user and gcc-aarch64-linux-gnu are not installed"
)
@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_a_family_gives_the_same_bits_and_the_same_class_on_64_bit_arm(family):
    report = verify_artifact(compile(family.models[0], target="aarch64"), family.samples())
    assert "emulated" in report.variant
    assert report.ok, report.totals
    assert not report.totals["codes"] or report.totals["ties"] or not sum(row.other_class for row in report.outputs)


@pytest.mark.parametrize("name", ["dorefa", "lq_net"])
def test_a_wrong_weight_bit_of_a_plane_is_found_in_its_channel(name):
    """Codes of several bits (DoReFa) and the signs of uneven levels (LQ-Net) are compared one by one: nothing hides behind the outputs."""
    (family,) = (f for f in families() if f.name == name)
    flipped = []

    def change(_, array):
        if flipped or array.dtype != np.uint64 or array.ndim != 4:
            return None
        flipped.append(array.shape)
        array = array.copy()
        array[3, 1, 1, 0] ^= np.uint64(1)
        return array

    report = verify_artifact(corrupted(compile(family.models[0], target="native"), change), family.samples())
    wrong = [row for row in report.sections if not row.ok]
    assert len({row.tensor for row in wrong}) == 1 and all(set(row.differing_by_channel) == {3} for row in wrong)


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_a_family_has_its_files_and_they_are_small(family):
    assert family.models, "run examples/zoo/export.py"
    assert all(path.stat().st_size <= 200_000 for path in family.models)
    if (family.folder / "network.py").is_file():
        assert {path.stem for path in family.models} >= set(family.exporters)
    assert set(read_record(family.name)["files"]) == {path.stem for path in family.models}, "run: python examples/zoo/table.py " + family.name


def test_the_table_in_docs_is_what_the_records_give():
    assert (DOCS / "FAMILIES.md").read_text(encoding="utf-8") == render(), "run: python examples/zoo/table.py --render"


def test_every_recorded_family_is_exact_and_no_slower_than_onnxruntime():
    for family in families():
        for exporter, facts in read_record(family.name)["files"].items():
            assert facts["exact"], (family.name, exporter)
            for target, speed in facts.get("speed", {}).items():
                assert speed["ratio"] >= 1, (family.name, exporter, target)
