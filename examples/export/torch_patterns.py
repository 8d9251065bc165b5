"""Export small binary networks from PyTorch, by both of its ONNX exporters, for tests/patterns/exports.

Run it in an environment with torch 2.13, onnx, onnxscript and onnxruntime::

    python examples/export/torch_patterns.py tests/patterns/exports

Each network is written as NAME_torchscript.onnx and NAME_dynamo.onnx, with NAME.npz beside them: inputs `x` (stacked), and
onnxruntime's outputs `torchscript` and `dynamo`, graph optimization off. Nothing is trained: BatchNormalization statistics
come from a few forward passes, and half of its scales are negated.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_layers import (
    BatchNormalized,
    BoolBlock,
    HardBinaryConv,
    IRConv,
    MeanAbsConv,
    PlainSignConv,
    ReActBlock,
    ScaledBySpatialMean,
    SignConv,
    dorefa,
    pact,
    polynomial_sign,
    sign_detached,
    where_sign,
)  # fmt: skip

SIZE = 8


class Network(nn.Module):
    """Float stem, then `layers`, global average pooling and a float classifier."""

    def __init__(self, channels: int, layers: list[nn.Module], last: int):
        super().__init__()
        self.stem = BatchNormalized(nn.Conv2d(3, channels, 3, padding=1, bias=False), channels)
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(last, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(self.stem(x))
        return self.classifier(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Activated(nn.Module):
    """activation -> binary convolution -> BatchNormalization, with a shortcut if asked for."""

    def __init__(self, activation, conv: nn.Module, out: int, *, shortcut: bool = False):
        super().__init__()
        self.activation, self.shortcut = activation, shortcut
        self.body = BatchNormalized(conv, out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.activation(x))
        return y + x if self.shortcut else y


def networks() -> dict[str, nn.Module]:
    """Build every network; each mimics how a published code base spells its layers."""

    def pair(activation, conv, c: int = 12, *, shortcut: bool = False) -> Network:
        return Network(c, [Activated(activation, conv(c, c), c, shortcut=shortcut) for _ in range(2)], c)

    return {
        "sign": pair(torch.sign, SignConv),
        "where": pair(where_sign, MeanAbsConv),
        "detach_ste": pair(sign_detached, HardBinaryConv),
        "bireal": pair(polynomial_sign, HardBinaryConv, shortcut=True),
        "constants": pair(where_sign, PlainSignConv),
        "irnet": pair(torch.sign, IRConv),
        "dorefa": pair(dorefa, MeanAbsConv),
        "pact": pair(pact, MeanAbsConv),
        "xnor_net": Network(12, [ScaledBySpatialMean(12, 12), ScaledBySpatialMean(12, 12)], 12),
        "reactnet": Network(10, [ReActBlock(10)], 20),
        "boolnet": Network(12, [BoolBlock(12)], 12),
        "large": Network(64, [Activated(where_sign, SignConv(64, 130, kernel=1), 130)], 130),
    }


def settle(network: nn.Module, generator: torch.Generator) -> None:
    """Let BatchNormalization see data of the kind that is exported, then negate half of its scales."""
    network.train()
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            sign = torch.where(torch.rand(norm.num_features, generator=generator) < 0.5, -1.0, 1.0)
            norm.weight.copy_(sign * (0.5 + torch.rand(norm.num_features, generator=generator)))
            norm.bias.copy_(torch.randn(norm.num_features, generator=generator) * 0.3)
        for _ in range(20):
            network(torch.randn(16, 3, SIZE, SIZE, generator=generator))
    network.eval()


def export(network: nn.Module, path: Path, *, dynamo: bool) -> None:
    """Write one ONNX file, weights inside."""
    x = torch.zeros(1, 3, SIZE, SIZE)
    options = {"dynamo": True, "external_data": False, "verbose": False} if dynamo else {"dynamo": False, "opset_version": 17}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), str(path), input_names=["x"], output_names=["y"], **options)
    model = onnx.load(path)
    for node in model.graph.node:  # exporters note source lines of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:]
    onnx.save(model, path)


def run(path: Path, samples: np.ndarray) -> np.ndarray:
    """Outputs of onnxruntime, graph optimization off, one row a sample."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": x[None]})[0] for x in samples])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the .onnx and .npz files")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    for name, network in networks().items():
        settle(network, generator)
        samples = torch.randn(3, 3, SIZE, SIZE, generator=generator).numpy()
        expected = {}
        for exporter in ("torchscript", "dynamo"):
            path = folder / f"{name}_{exporter}.onnx"
            export(network, path, dynamo=exporter == "dynamo")
            expected[exporter] = run(path, samples)
            print(f"{path.name}: {path.stat().st_size} bytes")
        np.savez_compressed(folder / f"{name}.npz", x=samples, **expected)


if __name__ == "__main__":
    main()
