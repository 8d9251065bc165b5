"""The whole comparison: binary layers alone, networks, and what a simulator says of processors that are not here.

    make benchmark        or        python benchmarks/suite.py --models ../shared/models --repeat 30

Writes docs/benchmark.json, and from it docs/BENCHMARK.md and, where matplotlib is installed, docs/benchmark_*.svg. OpenVINO is measured where it is
installed, on the ONNX model as it is; Larq Compute Engine reads no ONNX (`bnncc benchmark --against larq=MODEL.tflite`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from kernels import kernel_table, measure_kernels
from real_models import networks
from simulated import COMMAND, measure_simulated

from bnncc.compiler import compile
from bnncc.errors import ModelFormatError
from bnncc.report.benchmark import benchmark, processor
from bnncc.report.profile import profile

DOCS = Path(__file__).parents[1] / "docs"
THREADS = 2


def measure_network(path: Path, repeat: int) -> dict:
    """Return the latencies of a network on one thread and on two, and its profile."""
    with tempfile.TemporaryDirectory() as folder:
        compile(path, target="native", threads=THREADS).save(Path(folder) / "out")
        out = Path(folder) / "out"
        peers = {"openvino": path} if importlib.util.find_spec("openvino") else {}
        try:
            alone = benchmark(out, path, peers=peers, repeat=repeat)
        except ModelFormatError as error:  # it reads no quantizer domains
            print(error, file=sys.stderr)
            alone = benchmark(out, path, repeat=repeat)
        shared = benchmark(out, path, threads=THREADS, repeat=repeat)
        steps = profile(out, repeat=max(3, repeat // 3))
    return {"name": path.stem, "alone": asdict(alone), "shared": asdict(shared), "profile": steps.to_json()}


def network_table(rows: list[dict]) -> str:
    """Return the latencies of whole networks."""
    lines = [
        "| network | bnncc, ms | onnxruntime, ms | faster | OpenVINO (ONNX), ms | two threads, ms | faster than one | onnxruntime, two, ms |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        alone, shared = row["alone"], row["shared"]
        ours, theirs = alone["bnncc"]["median"] * 1e3, alone["onnxruntime"]["median"] * 1e3
        both = shared["bnncc"]["median"] * 1e3
        openvino = f"{alone['peers']['openvino']['median'] * 1e3:.3f}" if "openvino" in alone["peers"] else ""
        lines.append(
            f"| {row['name']} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f}x | {openvino} | {both:.3f} | {ours / both:.2f}x "
            f"| {shared['onnxruntime']['median'] * 1e3:.3f} |"
        )
    return "\n".join(lines)


def simulated_table(rows: list[dict]) -> str:
    """Return the cycles of inner loops."""
    lines = ["| processor | code | popcount | sliced | ratio |", "|---" * 5 + "|"]
    for row in rows:
        cells = [f"{row[name]['cycles']:.2f} ({row[name]['bound']:.2f})" for name in ("popcount", "sliced")]
        lines.append(f"| {row['processor']} | {row['code']} | {' | '.join(cells)} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def is_busy(load: float, cores: int) -> bool:
    """Tell whether so much else runs that times mean little."""
    return load > 0.5 * cores


def document(data: dict) -> str:
    """Return the page."""
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    busy = (
        "\n\n**The machine was busy with other work: times are too long by several times and ratios uncertain, those with two threads most of all. "
        "Run `make benchmark` on a quiet one.**"
    )
    parts = [
        "# Measured speed\n\nWritten by `make benchmark` from [benchmark.json](benchmark.json). "
        f"{data['processor']}, {data['cores']} cores, load average {data['load']:.1f} when it began; {versions}. "
        f"Medians of {data['repeat']} samples, all sides in turns in one process; code for this machine (`--target native`)."
        + (busy if is_busy(data["load"], data["cores"]) else ""),
        "## Binary layers alone\nOne thread, 10^9 multiply-accumulates a second, thresholds and packing included. The limit is the formulation's least "
        "instructions, measured on this machine in the same run.\n\n" + kernel_table(data["kernels"]),
    ]
    if data["networks"]:
        parts.append("## Networks\n" + network_table(data["networks"]))
    if data["simulated"]:
        parts.append(
            f"## Processors that are not here\nCycles for 512 multiply-accumulates of the inner loop, by `{COMMAND}`: simulated, and in brackets what the "
            "busiest unit alone would take. v4 is AVX-512, v3 AVX2.\n\n" + simulated_table(data["simulated"])
        )
    if data["plots"]:
        parts.append("## Plots\n" + "\n".join(f"![{name}]({name})" for name in data["plots"]))
    return "\n\n".join(parts) + "\n"


def plot(data: dict) -> list[str]:
    """Draw the roofline of each layer of the largest network, and the networks; returns the names of the files, none without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None or not data["networks"]:
        return []
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bnncc"  # the same data gives the same file
    from matplotlib import pyplot

    def save(figure, name: str) -> str:
        figure.tight_layout()
        figure.savefig(DOCS / name, metadata={"Date": None})
        pyplot.close(figure)
        return name

    largest = max(data["networks"], key=lambda row: sum(step["macs"] for step in row["profile"]["steps"]))
    figure, axes = pyplot.subplots(figsize=(8, 5))
    by_kind: dict[str, list[tuple[float, float, float]]] = {}
    for step in largest["profile"]["steps"]:
        if step["macs"] and step["limit"]:
            kind = step["note"].split(",")[0].split()[0]
            intensity, rate = step["macs"] / max(1, step["moved_bytes"]), 1e-9 * step["macs"]
            by_kind.setdefault(kind, []).append((intensity, rate / step["seconds"], rate / step["limit"]))
    for kind, points in sorted(by_kind.items()):
        x, y, limits = zip(*points)
        line = axes.loglog(x, y, "o", label=kind)[0]
        axes.axhline(statistics.median(limits), color=line.get_color(), linestyle="--", linewidth=1)
    axes.set_xlabel("multiply-accumulates a byte of feature maps")
    axes.set_ylabel("10^9 multiply-accumulates a second")
    axes.set_title(f"{largest['name']}: layers (points) and limits of their formulations (lines)")
    axes.legend()
    names = [save(figure, "benchmark_layers.svg")]

    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.45 * len(data["networks"])))
    ratios = [row["alone"]["onnxruntime"]["median"] / row["alone"]["bnncc"]["median"] for row in data["networks"]]
    axes.barh([row["name"] for row in data["networks"]], ratios)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("times as fast as onnxruntime float32, one thread")
    return [*names, save(figure, "benchmark_networks.svg")]


def main() -> None:
    """Measure, and write the documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="*", type=Path, default=[Path(__file__).parents[1] / "examples" / "digits"], help="folders of .onnx or .onnx.xz files"
    )
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    load = os.getloadavg()[0]
    if is_busy(load, os.cpu_count() or 1):
        log(f"The load average is {load:.1f}: times will be too long, ratios uncertain. The document says so.")
    kernels = measure_kernels(options.repeat, log)
    found, versions = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in networks([folder for folder in options.models if folder.is_dir()], Path(scratch)):
            log(path.stem)
            found.append(measure_network(path, options.repeat))
            versions |= found[-1]["alone"]["versions"]
    log(COMMAND)
    data = {"processor": processor(), "cores": os.cpu_count(), "load": load, "repeat": options.repeat, "versions": versions}
    data |= {"kernels": kernels, "networks": found, "simulated": measure_simulated()}
    data["plots"] = plot(data)
    (DOCS / "benchmark.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (DOCS / "BENCHMARK.md").write_text(document(data), encoding="utf-8")
    print(document(data))


if __name__ == "__main__":
    main()
