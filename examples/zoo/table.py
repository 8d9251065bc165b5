"""Write the support table: docs/FAMILIES.md, from one record a family in docs/families/.

Needs bnncc, not PyTorch. Named families, or all, are compiled, compared with onnxruntime, and recorded; then the table is written::

    python examples/zoo/table.py [FAMILY...] [--speed]     # --speed measures, else the recorded figures are kept
    python examples/zoo/table.py --render                  # the table from the records as they are

Records are one file a family so that families can be added side by side.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from pathlib import Path

from catalog import Family, families, find_family

from bnncc.compiler import CompiledArtifact, compile
from bnncc.report.benchmark import benchmark
from bnncc.report.verify import VerifyReport, verify_artifact

__all__ = ["compiled_facts", "measured_facts", "read_record", "render"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
TARGETS = ("AArch64", "Cortex-M")
"""Columns that stay empty until a record has figures of them."""

HEAD = """# Network families

Written by `python examples/zoo/table.py`; the networks are small ones in [examples/zoo](../examples/zoo), with random weights and fitted BatchNormalization.
*Checked against*: the public repositories with whose code block order, shortcut, scale, activation, padding and spelling were compared (what differs, and
why, is in the network's docstring); `paper`: no such code was found or read, the network follows the paper. Each is exported by every exporter named,
compiled, and compared with onnxruntime section by section (`bnncc verify`).

*Exact*: codes compared in the quantized part and how many differ other than by a tie (where the reference's own float rounding decides). *x86-64*:
onnxruntime's float32 time over bnncc's, one thread, in turns, both called from Python; the networks are so small that the calls themselves count. `-`: not
measured.
"""


def compiled_facts(artifact: CompiledArtifact) -> dict:
    """Return what the compiler decided about one file: the part of a record that every machine agrees on."""
    rows = artifact.context.layers
    macs = sum(row.macs for row in rows)
    reasons = Counter(_general(row.reason) for row in rows if not row.bits and not row.integer)
    return {
        "layers": len(rows),
        "layers_on_bits": sum(row.bits for row in rows),
        "layers_on_integers": sum(row.integer for row in rows),
        "macs": macs,
        "bit_share_of_macs": round(sum(row.macs for row in rows if row.bits) / max(1, macs), 4),
        "float_because": dict(sorted(reasons.items())),
    }


def measured_facts(report: VerifyReport) -> dict:
    """Return what verify found about one file."""
    totals = {name: report.totals[name] for name in ("codes", "codes_differing", "ties", "numbers", "numbers_differing")}
    return {"exact": report.ok, **totals, "largest_difference": max(row.max_abs_difference for row in report.outputs)}


def record(family: Family, speed: bool) -> dict:
    """Compile, verify and if asked measure every file of a family."""
    known = read_record(family.name).get("files", {})
    files = {}
    for path in family.models:
        artifact = compile(path, target="x86-64")
        files[path.stem] = {**compiled_facts(artifact), **measured_facts(verify_artifact(artifact, family.samples()))}
        if speed:
            with tempfile.TemporaryDirectory() as scratch:
                artifact.save(Path(scratch) / "out")
                found = benchmark(Path(scratch) / "out", path)
            files[path.stem]["speed"] = {
                "x86-64": {
                    "ratio": round(found.ratio, 2), "bnncc_us": round(found.bnncc.median * 1e6, 1),
                    "onnxruntime_us": round(found.onnxruntime.median * 1e6, 1), "processor": found.machine["processor"], "variant": found.variant,
                }
            }  # fmt: skip
        elif "speed" in known.get(path.stem, {}):
            files[path.stem]["speed"] = known[path.stem]["speed"]
    return {"files": files}


def read_record(name: str) -> dict:
    """Return what is recorded of a family, {} if nothing."""
    path = DOCS / "families" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def render() -> str:
    """Return the table that the records and family.toml files give."""
    titles = ["family", "paper", "checked against", "exporters", "layers on bits", "MACs on bits", "what stays float, and why", "exact", "x86-64", *TARGETS]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for family in families():
        files = read_record(family.name).get("files", {})
        if files:
            lines.append("| " + " | ".join(_row(family, files)) + " |")
    return HEAD + "\n" + "\n".join(lines) + "\n"


def _row(family: Family, files: dict[str, dict]) -> list[str]:
    facts = list(files.values())
    on_bits = {f"{f['layers_on_bits']} of {f['layers']}" + (f", {f['layers_on_integers']} on integers" if f["layers_on_integers"] else "") for f in facts}
    exact = f"{sum(f['codes'] for f in facts):,} codes, {sum(f['codes_differing'] for f in facts)} differ, {sum(f['ties'] for f in facts)} ties"
    exact += "" if all(f["exact"] for f in facts) else " (**not exact**)"
    paper = f"[{family.paper}]({family.url})" if family.url else family.paper
    stays = family.stays_float + (f"; {family.notes}" if family.notes else "")
    shares = {f"{f['bit_share_of_macs']:.1%}" for f in facts}
    speeds = [_speed(facts, target) for target in ("x86-64", *TARGETS)]
    return [family.title, paper, family.checked or "paper", ", ".join(files), " / ".join(sorted(on_bits)), " / ".join(sorted(shares)), stays, exact, *speeds]


def _speed(facts: list[dict], target: str) -> str:
    ratios = [f["speed"][target]["ratio"] for f in facts if target in f.get("speed", {})]
    return f"{min(ratios):.1f}x" if ratios else "-"


def _general(reason: str) -> str:
    """Return a reason without what is particular to one layer."""
    return re.sub(r" \([^)]*\)", "", reason)


def main() -> None:
    """Record, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="FAMILY")
    parser.add_argument("--speed", action="store_true", help="measure beside onnxruntime")
    parser.add_argument("--render", action="store_true", help="write the table from the records as they are")
    options = parser.parse_args()
    (DOCS / "families").mkdir(parents=True, exist_ok=True)
    for family in [] if options.render else [find_family(name) for name in options.names] or families():
        facts = record(family, options.speed)
        (DOCS / "families" / f"{family.name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        for exporter, found in facts["files"].items():
            speed = found.get("speed", {}).get("x86-64", {}).get("ratio", "-")
            on_bits = f"{found['layers_on_bits']} of {found['layers']} on bits, {found['layers_on_integers']} on integers"
            print(f"{family.name}/{exporter}: {on_bits}, exact {found['exact']}, ties {found['ties']}, {speed} times onnxruntime")
    (DOCS / "FAMILIES.md").write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
