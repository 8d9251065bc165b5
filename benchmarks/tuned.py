"""Tuned beside untuned kernels of a network: each step and the whole, in turns, medians.

    python benchmarks/tuned.py MODEL.onnx [--target native] [--database FOLDER] [--repeat 200] [--turns 9] [--json]

The two libraries are compiled here, with the records of the database and without any. A turn profiles both, one after the other; ratios are those of the
medians over turns. The last lines count the float layers that gained 1.15 and more, and those that lost.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from bnncc.report.tuned_network import compare_in_network

_GAIN = 1.15


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
    found = compare_in_network(given.model, given.target, given.database or True, turns=given.turns, repeat=given.repeat)
    if given.json:
        print(json.dumps(asdict(found), indent=1))
        return
    for step in found.steps:
        print(f"{step.untuned * 1e6:9.1f} us -> {step.tuned * 1e6:9.1f} us  {step.gain:5.2f}x  {step.writes[0][:40]:40}  {step.note}")
    floats = [step.gain for step in found.steps if step.macs and step.note.startswith("float")]
    layers = [step.gain for step in found.steps if step.macs]
    print(f"network: {found.untuned * 1e3:.3f} ms -> {found.tuned * 1e3:.3f} ms, {found.gain:.3f}x")
    print(f"float layers at {_GAIN}x and more: {sum(gain >= _GAIN for gain in floats)} of {len(floats)}")
    print(f"layers below 0.97x: {sum(gain < 0.97 for gain in layers)} of {len(layers)}; least {min(layers, default=1):.3f}x")


if __name__ == "__main__":
    main()
