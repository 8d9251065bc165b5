"""Networks that hold several spellings side by side: one float stem, then one branch and one graph output a spelling."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from .layers import activate, batch_norm, binary_conv, integer_stem
from .onnx_graph import Graph
from .spelling import ACTIVATIONS, WEIGHTS

__all__ = ["activation_branches", "weight_branches", "CHANNELS", "SIZE"]

CHANNELS, MIDDLE, LAST, SIZE = 40, 33, 8, 8


def activation_branches(names: Sequence[str], *, opset: int = 17, ir: int | None = None, twin: bool = False) -> onnx.ModelProto:
    """Build stem -> for each name: BN -> activation -> binary conv -> BN -> activation -> binary conv -> output `y_<name>`.

    The stem's output is integer, so the first BN puts exact zeros before the activation (not for x/abs(x), which is NaN there).
    Binary convolutions are called `<name>/conv1` and `<name>/conv2`.
    """
    g = Graph(opset, ir=ir, twin=twin)
    stem = integer_stem(g, g.input("x", [1, 3, SIZE, SIZE]), CHANNELS)
    for name in names:
        spelled = ACTIVATIONS[name]
        ties = spelled.at_zero == spelled.at_zero  # false for NaN
        y = batch_norm(g, stem, 8.0, ties=ties)
        y = binary_conv(g, y, MIDDLE, f"{name}/conv1", act=name)
        y = batch_norm(g, y, (9 * CHANNELS) ** 0.5, step=spelled.step, ties=ties)
        y = binary_conv(g, y, LAST, f"{name}/conv2", act=name, padding="none")
        g.output(y, f"y_{name}", [1, LAST, SIZE - 2, SIZE - 2])
    return g.model()


def weight_branches(names: Sequence[str], *, opset: int = 17, ir: int | None = None, weights_as_inputs: bool = False) -> onnx.ModelProto:
    """Build stem -> BN -> activation -> for each name: binary conv -> BN (or bias) -> activation -> binary conv -> output `y_<name>`."""
    g = Graph(opset, ir=ir, weights_as_inputs=weights_as_inputs)
    stem = integer_stem(g, g.input("x", [1, 3, SIZE, SIZE]), CHANNELS)
    bits = activate(g, batch_norm(g, stem, 8.0))
    for name in names:
        spelled = WEIGHTS[name]
        y = binary_conv(g, bits, MIDDLE, f"{name}/conv1", act=None, weight=name)
        if not spelled.bias:
            y = batch_norm(g, y, spelled.size * (9 * CHANNELS) ** 0.5, step=0.0625 if spelled.exact else None)
        y = binary_conv(g, y, LAST, f"{name}/conv2", weight=name, padding="none", stride=2)
        g.output(y, f"y_{name}", [1, LAST, SIZE // 2 - 1, SIZE // 2 - 1])
    return g.model()
