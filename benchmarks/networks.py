"""Whole networks for suite.py: measured on one thread and on two beside other programs, and told in tables.

OpenVINO runs NAME.xml where it lies beside NAME.onnx (a graph made by hand: openvino_graph.py), else the ONNX model. Larq Compute Engine runs NAME.tflite, in
this Python or in one that is given (larq_peer.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bnncc.compiler import compile
from bnncc.errors import ModelFormatError
from bnncc.report.benchmark import benchmark
from bnncc.report.profile import profile

__all__ = ["measure_network", "network_table", "write_between"]

ROOT = Path(__file__).parents[1]
THREADS = 2


def measure_network(path: Path, repeat: int, larq_python: str | None = None) -> dict:
    """Return the latencies of a network on one thread and on two, and its profile.

    Parameters
    ----------
    path : Path
        The ONNX model; what other programs run lies beside it.
    repeat : int
    larq_python : str, optional
        A Python that has Larq Compute Engine.
    """
    graph, tflite = path.with_suffix(".xml"), path.with_suffix(".tflite")
    peers = {"openvino": graph if graph.is_file() else path} if importlib.util.find_spec("openvino") else {}
    if tflite.is_file() and not larq_python and importlib.util.find_spec("larq_compute_engine"):
        peers["larq"] = tflite
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        compile(path, target="native", threads=THREADS).save(out)
        try:
            alone = benchmark(out, path, peers=peers, repeat=repeat)
        except ModelFormatError as error:  # it reads no quantizer domains
            print(error, file=sys.stderr)
            alone = benchmark(out, path, repeat=repeat)
        shared = benchmark(out, path, threads=THREADS, repeat=repeat)
        row = {"name": path.stem, "alone": asdict(alone), "shared": asdict(shared), "profile": profile(out, repeat=max(3, repeat // 3)).to_json()}
        row["openvino_graph"] = "openvino" in alone.peers and graph.is_file()
        if tflite.is_file() and larq_python:
            row["larq"] = _with_larq(larq_python, out, path, tflite, repeat)
    return row


def _with_larq(python: str, out: Path, path: Path, tflite: Path, repeat: int) -> dict | None:
    """Return the report beside Larq Compute Engine; None, with its last words on stderr, where it does not run the network."""
    command = [python, str(Path(__file__).with_name("larq_peer.py")), str(out), str(path), str(tflite), "--repeat", str(repeat)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"Larq Compute Engine does not run {tflite}: {' '.join(done.stderr.strip().splitlines()[-1:])}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _larq(row: dict) -> dict | None:
    """Return the report in which Larq Compute Engine was measured."""
    if "larq" in row["alone"]["peers"]:
        return row["alone"]
    return row.get("larq")


def network_table(rows: list[dict]) -> str:
    """Return the latencies of whole networks."""
    lines = [
        "| network | bnncc, ms | onnxruntime, ms | faster | OpenVINO, ms | faster | LCE, ms | faster "
        "| two threads, ms | faster than one | onnxruntime, two, ms |",
        "|---" * 11 + "|",
    ]
    for row in rows:
        alone, shared, larq = row["alone"], row["shared"], _larq(row)
        ours, theirs = alone["bnncc"]["median"] * 1e3, alone["onnxruntime"]["median"] * 1e3
        both = shared["bnncc"]["median"] * 1e3
        cells = [f"{ours:.3f}", f"{theirs:.3f}", f"{theirs / ours:.1f}x"]
        if "openvino" in alone["peers"]:
            openvino = alone["peers"]["openvino"]["median"] * 1e3
            cells += [f"{openvino:.3f} {'(graph)' if row.get('openvino_graph') else '(ONNX)'}", f"{openvino / ours:.1f}x"]
        else:
            cells += ["", ""]
        cells += [f"{larq['peers']['larq']['median'] * 1e3:.3f}", f"{larq['peers']['larq']['median'] / larq['bnncc']['median']:.1f}x"] if larq else ["", ""]
        cells += [f"{both:.3f}", f"{ours / both:.2f}x", f"{shared['onnxruntime']['median'] * 1e3:.3f}"]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what a file holds between two lines.

    Raises
    ------
    SystemExit
        It does not hold them, in this order.
    """
    content = path.read_text(encoding="utf-8")
    before, found, rest = content.partition(begin + "\n")
    _, ended, after = rest.partition(end + "\n")
    if not found or not ended:
        raise SystemExit(f"{path} has no lines {begin!r} and {end!r} to write between.")
    path.write_text(f"{before}{begin}\n{text}\n{end}\n{after}", encoding="utf-8")
