"""Export published networks at their full size, 224x224, from the blocks of the zoo's families.

Run it where export.py runs; larq-zoo's networks are ``export_larq.py --full``'s::

    python examples/zoo/export_full.py FOLDER [NAME...]
"""

from __future__ import annotations

import argparse
import importlib.util
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from catalog import ROOT, find_family
from export import export
from layers import fit
from torch import nn

__all__ = ["FULL", "main"]

IMAGE = (1, 3, 224, 224)


def _module(family: str):
    spec = importlib.util.spec_from_file_location(f"zoo_{family}", ROOT / family / "network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reactnet_a() -> nn.Module:
    """Return ReActNet-A: the channels and strides of MobileNet."""
    family = _module("reactnet")
    channels = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    network = family.Network(channels[0])
    network.blocks = nn.Sequential(*(family.BasicBlock(*pair, stride) for pair, stride in zip(zip(channels, channels[1:]), strides, strict=True)))
    network.fc = nn.Linear(channels[-1], 1000)
    return network


FULL: dict[str, tuple[str, Callable[[], nn.Module]]] = {"reactnet_a": ("reactnet", reactnet_a)}
"""By name: the family whose blocks it is made of, and what makes it."""


def main() -> None:
    """Export what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FULL)}; all without")
    options = parser.parse_args()
    if unknown := set(options.names) - set(FULL):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(FULL)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.names or FULL:
        family, build = FULL[name]
        torch.manual_seed(zlib.crc32(name.encode()))
        path = options.folder / f"{name}.onnx"
        network = build()
        with torch.no_grad():
            for weights in network.parameters():
                weights[weights == 0] = 1e-6  # drawn among millions; a sign of 0 would need a second plane of bits, which trained networks do not
        export(fit(network, IMAGE, batch=2), replace(find_family(family), inputs={"x": list(IMAGE)}), path, dynamo=False)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
