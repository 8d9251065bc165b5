"""docs/BENCHMARK.md says what docs/benchmark.json holds, and its tables follow from the measured times."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import suite

    yield suite
    for name in ("suite", "kernels", "layers", "networks", "real_models", "simulated", "group_runner"):
        sys.modules.pop(name, None)


def test_the_page_is_made_from_the_data(suite):
    data = json.loads((ROOT / "docs" / "benchmark.json").read_text())
    assert suite.document(data) == (ROOT / "docs" / "BENCHMARK.md").read_text()
    assert all((ROOT / "docs" / name).is_file() for name in data["plots"])


def test_rates_and_ratios_follow_from_times(suite):
    plain = {"layer": "plain", "like": "plain", "macs": 4e9, "note": "sliced, words", "limits_gmacs": {"sliced": 800.0}}
    rows = [plain | {"seconds": {"chosen": 0.01, "sliced": 0.01, "onnxruntime": 0.08}}]
    rows += [plain | {"layer": "other", "macs": 1e9, "seconds": {"chosen": 0.005, "onnxruntime": 0.01}}]
    lines = suite.kernel_table(rows).splitlines()
    assert lines[2] == "| plain | 400 | 400 sliced | 50% |  | 50 | 8.0x |"
    assert lines[3] == "| other |  | 200 sliced | 25% | 50% | 100 | 2.0x |"
    alone = {"bnncc": {"median": 0.002}, "onnxruntime": {"median": 0.01}, "peers": {}}
    shared = {"bnncc": {"median": 0.001}, "onnxruntime": {"median": 0.006}}
    row = {"name": "n", "alone": alone, "shared": shared}
    assert suite.network_table([row]).splitlines()[2] == "| n | 2.000 | 10.000 | 5.0x |  |  |  |  | 1.000 | 2.00x | 6.000 |"
    alone["peers"] = {"openvino": {"median": 0.004}}
    row |= {"openvino_graph": True, "larq": {"bnncc": {"median": 0.001}, "peers": {"larq": {"median": 0.007}}}}
    cells = suite.network_table([row]).splitlines()[2]
    assert "| 4.000 (graph) | 2.0x | 7.000 | 7.0x |" in cells, "each beside bnncc as it ran in the same process"


def test_readme_gets_the_table_between_its_two_lines_and_keeps_the_rest(suite, tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{suite.BEGIN}\nold\n{suite.END}\nafter\n")
    suite.write_between(page, suite.BEGIN, suite.END, "new")
    assert page.read_text() == f"before\n{suite.BEGIN}\nnew\n{suite.END}\nafter\n"
    assert (ROOT / "README.md").read_text().count(suite.BEGIN) == 1
    page.write_text("nothing to write between\n")
    with pytest.raises(SystemExit, match="has no lines"):
        suite.write_between(page, suite.BEGIN, suite.END, "new")
