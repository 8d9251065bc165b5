"""Compile every network of a folder and measure it beside onnxruntime: compile time, second compile, library size, latency, agreement.

    python benchmarks/real_models.py ../shared/models ../shared/models/families --target native

One Markdown row a network goes to stdout; the log to stderr. Latency is measured in one process, in turns, on one thread, on random input.
"""

from __future__ import annotations

import argparse
import lzma
import os
import sys
import tempfile
import time
from pathlib import Path

from bnncc.compiler import compile
from bnncc.report.benchmark import benchmark


def networks(folders: list[Path], scratch: Path) -> list[Path]:
    """Return the .onnx files of the folders, those that are packed with xz unpacked into `scratch`."""
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*.onnx*")):
            if path.suffix == ".xz":
                unpacked = scratch / path.stem
                unpacked.write_bytes(lzma.open(path).read())
                path = unpacked
            found.append(path)
    return found


def measure(path: Path, target: str, folder: Path, repeat: int) -> str:
    """Return the table row of one network."""
    seconds = []
    for _ in range(2):  # the second time with the kernels cached
        start = time.perf_counter()
        artifact = compile(path, target=target)
        metadata = artifact.save(folder)
        seconds.append(time.perf_counter() - start)
    layers = artifact.report.layers
    bits = sum(row.macs for row in layers if row.bits) / max(1, sum(row.macs for row in layers))
    report = benchmark(folder, path, repeat=repeat)
    ours, theirs = report.bnncc.median * 1e3, report.onnxruntime.median * 1e3
    library = (folder / f"lib{metadata['name']}.so").stat().st_size
    return (
        f"| {path.stem} | {sum(row.bits for row in layers)} of {len(layers)} | {bits:.1%} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f}x "
        f"| {seconds[0]:.1f} | {seconds[1]:.1f} | {library / 1e6:.2f} | {path.stat().st_size / 1e6:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--target", default="x86-64")
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    print("| network | layers on bits | MACs on bits | bnncc, ms | onnxruntime, ms | faster | compile, s | again, s | library, MB | ONNX, MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BNNCC_CACHE_DIR"] = f"{scratch}/cache"
        for path in networks(options.folders, Path(scratch)):
            print(path.stem, file=sys.stderr)
            print(measure(path, options.target, Path(scratch) / "out", options.repeat), flush=True)


if __name__ == "__main__":
    main()
