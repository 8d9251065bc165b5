"""Every network of examples/zoo compiles, is exact, and runs on bits what its family.toml says; the table in docs agrees."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
    # verify reads no codes out of several weighted planes yet: of networks that have nothing else it compares the outputs only
    comparable = [row for row in artifact.context.layers if (row.bits or row.integer) and "planes" not in row.reason and "sum of 2 signs" not in row.reason]
    assert report.totals["codes"] > 0 or not comparable


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
