"""Export families of the zoo from PyTorch by both of its ONNX exporters.

Run it in an environment with torch 2.13, onnx and onnxscript; all families, or those that are named::

    python examples/zoo/export.py [FAMILY...]

Each ``network.py`` is built with a seed of its own, so the same versions write the same files.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import warnings
import zlib
from pathlib import Path

import onnx
import torch
from catalog import EXPORTERS, Family, families, find_family

LIMIT = 200_000
"""Bytes that a committed file may have."""


def build(family: Family) -> torch.nn.Module:
    """Return the family's network, its weights drawn with a seed that the name gives."""
    spec = importlib.util.spec_from_file_location(f"zoo_{family.name}", family.folder / "network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(zlib.crc32(family.name.encode()))
    return module.build().eval()


def export(network: torch.nn.Module, family: Family, path: Path, *, dynamo: bool) -> None:
    """Write one ONNX file, weights inside, without notes of this machine's files."""
    arguments = tuple(torch.zeros(shape) for shape in family.inputs.values())
    options = {"dynamo": True, "external_data": False, "verbose": False} if dynamo else {"dynamo": False, "opset_version": 17}
    if family.opset is not None:
        options["opset_version"] = family.opset
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, arguments, str(path), input_names=list(family.inputs), **options)
    model = onnx.load(path)
    graph = model.graph
    for described in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph, model):
        del described.metadata_props[:]
        described.doc_string = ""
    model.producer_name, model.producer_version = "pytorch", torch.__version__.partition("+")[0]
    onnx.save(model, path)


def main() -> None:
    """Export, and say how large each file is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="FAMILY")
    chosen = [find_family(name) for name in parser.parse_args().names] or families()
    for family in chosen:
        if not set(family.exporters) & set(EXPORTERS) or not (family.folder / "network.py").is_file():
            continue  # another tool exports it
        network = build(family)
        for exporter in family.exporters:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / f"{exporter}.onnx"
                export(network, family, path, dynamo=exporter == "dynamo")
                size = path.stat().st_size
                if size > LIMIT:
                    raise SystemExit(f"{family.name}/{path.name} has {size:,} bytes, more than {LIMIT:,}: make the network smaller.")
                (family.folder / path.name).write_bytes(path.read_bytes())
            print(f"{family.name}/{exporter}.onnx: {size:,} bytes")


if __name__ == "__main__":
    os.environ.setdefault("TORCH_LOGS", "-all")
    main()
