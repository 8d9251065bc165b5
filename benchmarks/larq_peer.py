"""Measure a compiled model beside onnxruntime and Larq Compute Engine, in an environment of its own: TensorFlow and TVM ask for different packages.

    LARQ/bin/python benchmarks/larq_peer.py OUT MODEL.onnx MODEL.tflite [--repeat N]      # Python 3.8 to 3.11

That environment needs larq-compute-engine, tensorflow-cpu 2.15, onnxruntime, rich and jinja2, and this repository in PYTHONPATH, but no TVM. The report
goes to stdout as JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from bnncc.report.benchmark import benchmark


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    print(json.dumps(asdict(benchmark(options.out, options.onnx, peers={"larq": options.tflite}, repeat=options.repeat))))


if __name__ == "__main__":
    main()
