"""The whole comparison: binary layers alone, networks, and what a simulator says of processors that are not here.

    make benchmark        or        python benchmarks/suite.py --models ../shared/models --repeat 30

Writes docs/benchmark.json, and from it docs/BENCHMARK.md, the table in README.md and, where matplotlib is installed, docs/benchmark_*.svg. OpenVINO is measured
where it is installed, on NAME.xml beside NAME.onnx (openvino_graph.py) or else the ONNX model; Larq Compute Engine on NAME.tflite, in the Python of
`--larq-python` (larq_peer.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from kernels import kernel_table, measure_kernels
from networks import measure_network, network_table, write_between
from real_models import networks
from simulated import COMMAND, measure_simulated

from bnncc.report.benchmark import processor

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
BEGIN, END = "<!-- benchmark: what stands here is written by `make benchmark` -->", "<!-- end of benchmark -->"


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
        "instructions, measured on this machine in the same run."
        + (f" Of an earlier run, when the load average was {data['layers_load']:.1f}." if "layers_load" in data else "")
        + "\n\n"
        + kernel_table(data["kernels"]),
    ]
    if data["networks"]:
        parts.append(
            "## Networks\nOne thread unless said. OpenVINO runs a graph made by hand, which alone reaches its binary convolutions (graph), or the ONNX model. "
            "LCE is Larq Compute Engine in the fastest of its modes, from the Keras network.\n\n" + network_table(data["networks"])
        )
    if data["simulated"]:
        parts.append(
            f"## Processors that are not here\nCycles for 512 multiply-accumulates of the inner loop, by `{COMMAND}`: simulated, and in brackets what the "
            "busiest unit alone would take. v4 is AVX-512, v3 AVX2.\n\n" + simulated_table(data["simulated"])
        )
    if data["plots"]:
        parts.append("## Plots\n" + "\n".join(f"![{name}]({name})" for name in data["plots"]))
    return "\n\n".join(parts) + "\n"


def readme(data: dict) -> str:
    """Return what README.md shows of the page."""
    how = f"{data['processor']}, {data['cores']} cores, medians of {data['repeat']}, code for this machine"
    busy = " **The machine was busy with other work: ratios are uncertain.**" if is_busy(data["load"], data["cores"]) else ""
    return f"{network_table(data['networks'])}\n\n{how}; more in [docs/BENCHMARK.md](docs/BENCHMARK.md).{busy}"


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
    parser.add_argument("--larq-python", metavar="PYTHON", help="a Python that has Larq Compute Engine; without, this one if it has")
    parser.add_argument("--keep-layers", action="store_true", help="measure networks alone; layers and simulated cycles stay those of the last run")
    options = parser.parse_args()

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    load = os.getloadavg()[0]
    if is_busy(load, os.cpu_count() or 1):
        log(f"The load average is {load:.1f}: times will be too long, ratios uncertain. The document says so.")
    last = json.loads((DOCS / "benchmark.json").read_text(encoding="utf-8")) if options.keep_layers else None
    kernels = last["kernels"] if last else measure_kernels(options.repeat, log)
    found, versions = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in networks([folder for folder in options.models if folder.is_dir()], Path(scratch)):
            log(path.stem)
            found.append(measure_network(path, options.repeat, options.larq_python))
            versions |= found[-1]["alone"]["versions"]
            versions |= {name: version for name, version in found[-1].get("larq", {}).get("versions", {}).items() if name == "larq"}
    if not last:
        log(COMMAND)
    data = {"processor": processor(), "cores": os.cpu_count(), "load": load, "repeat": options.repeat, "versions": versions}
    data |= {"kernels": kernels, "networks": found, "simulated": last["simulated"] if last else measure_simulated()}
    if last:
        data["layers_load"] = last.get("layers_load", last["load"])
    data["plots"] = plot(data)
    (DOCS / "benchmark.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (DOCS / "BENCHMARK.md").write_text(document(data), encoding="utf-8")
    write_between(README, BEGIN, END, readme(data))
    print(document(data))


if __name__ == "__main__":
    main()
