"""Tuned beside untuned kernels of a network: each step and the whole, in turns, medians.

    python benchmarks/tuned.py MODEL.onnx [--target native] [--database FOLDER] [--repeat 200] [--turns 9] [--json]

The two libraries are compiled here, with the records of the database and without any. A turn profiles both, one after the other; ratios are those of the
medians over turns. The last lines count the float layers that gained 1.15 and more, and those that lost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from bnncc.compiler import compile
from bnncc.report.profile import profile

__all__ = ["compare"]

_GAIN = 1.15


def compare(model: Path, target: str, database: Path | bool, repeat: int, turns: int) -> dict:
    """Return the seconds of each step, untuned and tuned."""
    with tempfile.TemporaryDirectory(prefix="bnncc-tuned-") as temporary:
        folders = {"untuned": Path(temporary) / "untuned", "tuned": Path(temporary) / "tuned"}
        compile(model, target=target, database=False).save(folders["untuned"])
        compile(model, target=target, database=database).save(folders["tuned"])
        seconds: dict[str, list[list[float]]] = {name: [] for name in folders}
        for turn in range(turns):
            for name in sorted(folders, reverse=turn % 2 == 1):
                report = profile(folders[name], repeat=repeat, seed=turn)
                seconds[name].append([step.seconds for step in report.steps] + [report.seconds])
                if name == "tuned":
                    steps = report.steps
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seconds.items()}
    rows = [
        {"makes": list(step.writes), "note": step.note, "macs": step.macs, "untuned": before, "tuned": after, "gain": before / after}
        for step, before, after in zip(steps, medians["untuned"], medians["tuned"], strict=False)
    ]
    before, after = medians["untuned"][-1], medians["tuned"][-1]
    return {"steps": rows, "untuned": before, "tuned": after, "gain": before / after}


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="native")
    parser.add_argument("--database", type=Path)
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = compare(given.model, given.target, given.database or True, given.repeat, given.turns)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for row in found["steps"]:
        print(f"{row['untuned'] * 1e6:9.1f} us -> {row['tuned'] * 1e6:9.1f} us  {row['gain']:5.2f}x  {row['makes'][0][:40]:40}  {row['note']}")
    floats = [row["gain"] for row in found["steps"] if row["macs"] and row["note"].startswith("float")]
    layers = [row["gain"] for row in found["steps"] if row["macs"]]
    print(f"network: {found['untuned'] * 1e3:.3f} ms -> {found['tuned'] * 1e3:.3f} ms, {found['gain']:.3f}x")
    print(f"float layers at {_GAIN}x and more: {sum(gain >= _GAIN for gain in floats)} of {len(floats)}")
    print(f"layers below 0.97x: {sum(gain < 0.97 for gain in layers)} of {len(layers)}; least {min(layers, default=1):.3f}x")


if __name__ == "__main__":
    main()
