"""The layers that the pattern networks share: integer stem, exact BatchNormalization, binary convolution with every padding.

All constants are integers or half-integers times powers of two, so that float32 sums are exact and the order of summation
does not matter: a compiled model has to give onnxruntime's result exactly, zeros before a sign included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .onnx_graph import Graph, Tensor
from .spelling import ACTIVATIONS, WEIGHTS

__all__ = ["BN_EPSILON", "integer_stem", "batch_norm", "activate", "binary_conv", "PADDINGS", "classifier", "power_of_two_near"]

BN_EPSILON = 2.0**-16
PADDINGS = ("none", "zero", "plus_one", "minus_one", "edge", "zero_before_sign", "asymmetric", "plus_one_subgraph", "edge_subgraph")


def power_of_two_near(value: float) -> float:
    return 2.0 ** round(math.log2(value))


def integer_stem(g: Graph, x: Tensor, channels: int, *, stride: int = 1, name: str = "stem") -> Tensor:
    """A float 3x3 convolution with weights in {-1, 0, 1}: its output is integer where `x` is."""
    w = g.const(g.rng.integers(-1, 2, (channels, x.channels, 3, 3)), f"{name}.weight")
    y = g.node("Conv", x.name, w, name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride])
    return Tensor(y, channels)


def batch_norm(g: Graph, x: Tensor, spread: float, *, step: float | None = 1.0, ties: bool = True, name: str | None = None) -> Tensor:
    """BatchNormalization with gammas of either sign whose output is exact.

    Parameters
    ----------
    spread : float
        Standard deviation of the input, about.
    step : float or None
        The input's values are multiples of it; None where they are no multiples of anything.
    ties : bool
        Shall some outputs be exactly 0, that is, thresholds on the grid of the inputs instead of half-way between?
    """
    c, sigma = x.channels, power_of_two_near(spread)
    gamma = g.rng.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], c)
    if step is None:
        threshold, distance = g.rng.uniform(-0.4, 0.4, c) * sigma, np.zeros(c)
    else:
        reach = max(1, int(0.4 * sigma / step))
        threshold = (g.rng.integers(-reach, reach + 1, c) + (0 if ties else 0.5)) * step
        distance = g.rng.integers(-2, 3, c) * step
    parameters = (gamma, -distance * gamma / sigma, threshold - distance, np.full(c, sigma**2 - BN_EPSILON))
    y = g.node("BatchNormalization", x.name, *(g.const(p) for p in parameters), epsilon=BN_EPSILON, name=name)
    return Tensor(y, c, x.rank)


def activate(g: Graph, x: Tensor, spelling: str = "where_ge") -> Tensor:
    """Apply the activation spelled `spelling`."""
    return Tensor(ACTIVATIONS[spelling].emit(g, x), x.channels, x.rank)


def _pad_vector_subgraph(g: Graph, pads: Sequence[int]) -> str:
    """Spell an ONNX pad vector as the TorchScript exporter leaves it: from PyTorch's order, last axis first."""
    torch_order = g.const([pads[3], pads[7], pads[2], pads[6]], dtype=np.int64)
    zeros = g.node("ConstantOfShape", g.const([4], dtype=np.int64))
    pairs = g.reshape(g.node("Concat", torch_order, g.cast(zeros, to=7), axis=0), (-1, 2))
    reversed_pairs = g.slice(pairs, [0], [-1], [-(2**63) + 1], [-1])
    return g.cast(g.reshape(g.node("Transpose", reversed_pairs, perm=[1, 0]), (-1,)), to=7)


def _padded(g: Graph, x: str, kind: str, pads: list[int]) -> str:
    long_pads = [0, 0, *pads[:2], 0, 0, *pads[2:]]
    mode = "edge" if kind.startswith("edge") else "constant"
    value = -1.0 if kind == "minus_one" else 1.0
    if not kind.endswith("subgraph"):
        return g.pad(x, long_pads, value, mode)
    fill = [] if mode == "edge" else [g.scalar(value)]
    return g.node("Pad", x, _pad_vector_subgraph(g, long_pads), *fill, mode=mode)


def binary_conv(
    g: Graph, x: Tensor, channels: int, name: str, *, act: str | None = "where_ge", weight: str = "plain_signs", kernel: int = 3,
    padding: str = "zero", stride: int = 1, dilation: int = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Binarize `x` by the spelling `act`, pad it as `padding` says, and convolve it with binary weights.

    `act=None` says that `x` is two-valued already. With "zero_before_sign" the pad comes before the activation.
    """
    reach = dilation * (kernel - 1)
    before = 0 if padding == "none" else reach // 2
    after = 0 if padding == "none" else reach - before
    pads = [before, before, after, after]
    if padding == "asymmetric":
        pads = [0, before, reach, after]
    if padding == "zero_before_sign":
        x = x._replace(name=g.pad(x.name, [0, 0, *pads[:2], 0, 0, *pads[2:]]))
    value = activate(g, x, act).name if act else x.name
    if padding not in ("none", "zero", "asymmetric", "zero_before_sign"):
        value = _padded(g, value, padding, pads)
    if padding not in ("zero", "asymmetric"):
        pads = [0, 0, 0, 0]
    spelled = WEIGHTS[weight]
    operands = [value, spelled.emit(g, (channels, x.channels // groups, kernel, kernel))]
    if spelled.bias:
        operands.append(g.const(g.rng.integers(-8, 9, channels) / 8 if spelled.exact else g.rng.uniform(-0.7, 0.7, channels)))
    y = g.node(
        "Conv", *operands, name=name, kernel_shape=[kernel, kernel], pads=pads, strides=[stride, stride], dilations=[dilation, dilation],
        group=groups,
    )  # fmt: skip
    return Tensor(y, channels)


def classifier(g: Graph, x: Tensor, classes: int = 10, name: str = "classifier") -> str:
    """Global average pooling and a float Gemm."""
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x.name), axis=1)
    w = g.const(g.rng.integers(-4, 5, (classes, x.channels)) / 4)
    return g.gemm(pooled, w, g.const(g.rng.integers(-4, 5, classes) / 4), transB=1, name=name)
