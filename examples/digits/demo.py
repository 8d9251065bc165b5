"""Compile the example network, classify its test images, and compare with onnxruntime."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

import bnncc
from bnncc.report.benchmark import benchmark

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits.onnx"


def test_images() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, float32 (450, 1, 8, 8) in 0..1, and their labels."""
    with np.load(HERE / "test.npz") as data:
        return data["images"][:, None].astype(np.float32) / 16, data["labels"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out"), help="folder of the compiled network (default: out)")
    parser.add_argument("--target", default="x86-64")
    args = parser.parse_args()
    console = Console(highlight=False)

    console.rule(f"bnncc compile {MODEL.name} --target {args.target} -o {args.output}", align="left")
    start = time.perf_counter()
    artifact = bnncc.compile(MODEL, target=args.target)
    artifact.save(args.output)
    seconds = time.perf_counter() - start
    model = bnncc.load(args.output)
    library, onnx_size = model.path.stat().st_size, MODEL.stat().st_size
    console.print(f"{model.path}: {library:,} bytes, compiled in {seconds:.1f} s")
    console.print(f"{MODEL.name}: {onnx_size:,} bytes, {onnx_size / library:.1f} times the library\n")

    console.rule(f"the layers (bnncc inspect {MODEL.name} shows more)", align="left")
    table = Table("layer", "runs on", "MACs", "why", box=None, pad_edge=False)
    for row in artifact.report.layers:
        table.add_row(row.node, "bits" if row.bits else "float", f"{row.macs:,}", row.reason)
    console.print(table)
    console.print()

    images, labels = test_images()
    console.rule(f"the {len(images)} test images", align="left")
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    ours = model(images).argmax(1)
    theirs = np.array([session.run(None, {"image": image[None]})[0].argmax() for image in images])
    for name, classes in (("bnncc", ours), ("onnxruntime", theirs)):
        right = int((classes == labels).sum())
        console.print(f"{name:12} {right} of {len(labels)} right: {100 * right / len(labels):.2f} %")
    console.print(f"images that the two classify differently: {int((ours != theirs).sum())}\n")

    console.rule(f"bnncc benchmark {args.output} --against {MODEL.name}", align="left")
    benchmark(args.output, MODEL, repeat=100).to_text(console)


if __name__ == "__main__":
    main()
