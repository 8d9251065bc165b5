"""Random small binary networks as a hypothesis strategy.

Every constant is an integer or half-integer times a power of two, and each feature map carries its grid and its bound, so
that every sum is exact in float32: whatever order it is taken in, a compiled model has to give the reference's very bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import numpy_helper
from patterns.catalog import ACTIVATIONS
from patterns.layers import PADDINGS, batch_norm, binary_conv, integer_stem, power_of_two_near
from patterns.networks_logic import logical_or
from patterns.onnx_graph import Graph, Tensor
from patterns.weights import random_signs

__all__ = ["RandomNetwork", "binary_networks", "describe"]

CHANNELS = (1, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129)
BIPOLAR = (-1.0, 1.0)
SPELLINGS = tuple(  # not those that are NaN at 0, and not those whose thresholds are computed in floats
    name
    for name, a in ACTIVATIONS.items()
    if a.packs and a.step == 1.0 and not a.custom and a.at_zero == a.at_zero and "run-time" not in a.source
)
WEIGHTS = (
    "plain_signs", "sign_of_latent", "where_of_latent", "mean_abs_sign", "batch_norm_folded", "flat_column", "transposed_hwio",
    "dead_channel",
)  # fmt: skip
BETWEEN = ("batch_norm", "bias", "scale", "relu", "prelu", "rprelu", "hardtanh", "max_pool", "average_pool")
ON_BITS = ("logic", "shuffle", "slice", "split_concat", "concat", "max_pool")
MOST_BITS = 20  # of a float32's 24, for the ratio of a map's bound to its grid


class RandomNetwork(NamedTuple):
    """A model, and the names of the nodes that read two-valued tensors of plain spelling, so that they must run on bits."""

    model: onnx.ModelProto
    bits: tuple[str, ...]


@dataclass(frozen=True)
class FeatureMap:
    """A value [1, channels, height, width]: multiples of `step` up to `bound`.

    `levels` are an activation's, where it is one; `signed` says that values of either sign are to be expected.
    """

    name: str
    channels: int
    height: int
    width: int
    step: float
    bound: float
    spread: float
    levels: tuple[float, ...] = ()
    signed: bool = True

    @property
    def tensor(self) -> Tensor:
        return Tensor(self.name, self.channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


@dataclass
class _Under:
    """A network under construction, and the feature maps that later layers may read again."""

    draw: st.DrawFn
    g: Graph
    bits: list[str] = field(default_factory=list)
    floats_seen: list[FeatureMap] = field(default_factory=list)
    bits_seen: list[FeatureMap] = field(default_factory=list)
    convolutions: int = 0

    def choose(self, label: str, options: tuple | list):
        return self.draw(st.sampled_from(options), label=label)

    # -- float feature maps -------------------------------------------------------------------------------------------

    def normalized(self, x: FeatureMap) -> FeatureMap:
        sigma = power_of_two_near(x.spread)
        y = batch_norm(self.g, x.tensor, x.spread, step=x.step, ties=self.draw(st.booleans(), label="ties"))
        return replace(x, name=y.name, step=x.step / sigma / 4, bound=(x.bound + 2 * sigma) * 2 / sigma + 4, spread=1.0, signed=True)

    def between(self, x: FeatureMap, kind: str) -> FeatureMap:
        """One operator between accumulator and activation."""
        g = self.g
        small = g.rng.integers(-3, 4, x.channels) * max(x.step, power_of_two_near(x.spread) / 4)
        if kind == "batch_norm":
            return self.normalized(x)
        if kind == "bias":
            y = g.node("Add", x.name, g.const(x.tensor.per_channel(small)))
            return replace(x, name=y, bound=x.bound + np.abs(small).max(), signed=x.channels > 1)
        if kind == "scale":
            factor = g.rng.choice([-2.0, -0.5, 0.5, 1.0], x.channels)
            return replace(x, name=g.node("Mul", x.name, g.const(x.tensor.per_channel(factor))), step=x.step / 2, bound=x.bound * 2)
        if kind == "relu":
            return replace(x, name=g.node("Relu", x.name), signed=False)
        if kind == "hardtanh":
            return replace(x, name=g.clip(x.name, -1, 1), bound=1.0, spread=min(x.spread, 1.0), step=min(x.step, 1.0))
        if kind in ("prelu", "rprelu"):
            offsets = [g.const(x.tensor.per_channel(v)) for v in (small, -small)]
            y = g.node("Sub", x.name, offsets[0]) if kind == "rprelu" else x.name
            slopes = g.rng.choice([-0.5, 0.0, 0.25, 0.5], (x.channels, 1, 1))
            y = g.node("PRelu", y, g.const(slopes))
            y = g.node("Add", y, offsets[1]) if kind == "rprelu" else y
            return replace(x, name=y, step=x.step / 4, bound=x.bound + 2 * np.abs(small).max(), signed=x.signed and x.channels > 1)
        if min(x.height, x.width) < 2:
            return x
        halved = replace(x, height=x.height // 2, width=x.width // 2)
        if kind == "max_pool":
            return replace(halved, name=g.node("MaxPool", x.name, kernel_shape=[2, 2], strides=[2, 2]))
        return replace(halved, name=g.node("AveragePool", x.name, kernel_shape=[2, 2], strides=[2, 2]), step=x.step / 4)

    def settled(self, x: FeatureMap) -> FeatureMap:
        """Up to three operators, then perhaps a shortcut from an earlier map; remember the result."""
        for kind in self.draw(st.lists(st.sampled_from(BETWEEN), max_size=3), label="between"):
            y = self.between(x, kind)
            if y.bound / y.step < 2**MOST_BITS:
                x = y
        earlier = [y for y in self.floats_seen if y.shape == x.shape and (x.bound + y.bound) / min(x.step, y.step) < 2**MOST_BITS]
        if earlier and self.draw(st.booleans(), label="shortcut"):
            y = self.choose("shortcut from", earlier)
            total = self.g.node("Add", x.name, y.name)
            x = replace(x, name=total, step=min(x.step, y.step), bound=x.bound + y.bound, spread=max(x.spread, y.spread))
        self.floats_seen.append(x)
        return x

    # -- two-valued feature maps --------------------------------------------------------------------------------------

    def binarized(self, x: FeatureMap) -> FeatureMap:
        spelling = self.choose("activation", SPELLINGS)
        y = replace(x, name=ACTIVATIONS[spelling].emit(self.g, x.tensor), step=1.0, bound=1.0, spread=1.0)
        y = replace(y, levels=ACTIVATIONS[spelling].values if x.signed else ())
        self.bits_seen.append(y)
        return y

    def logic(self, a: FeatureMap, b: FeatureMap) -> FeatureMap:
        g, kind = self.g, self.choose("logic", ("or", "xnor", "xor", "max", "min"))
        if kind == "or":
            y = logical_or(g, a.name, b.name)
        elif kind in ("max", "min"):
            y = g.node(kind.capitalize(), a.name, b.name)
        else:
            y = g.node("Mul", g.node("Neg", a.name) if kind == "xor" else a.name, b.name)
        return replace(a, name=y, step=0.5, levels=())  # a function of dependent operands can be constant: nothing to demand

    def on_bits(self, x: FeatureMap, kind: str) -> FeatureMap:
        """One operator on an activation's output."""
        g, c = self.g, x.channels
        if kind == "logic":
            others = [y for y in self.bits_seen if y.shape == x.shape]
            return self.logic(x, self.choose("other operand", others)) if others else x
        if kind == "concat":
            others = [y for y in self.bits_seen if y.shape[1:] == x.shape[1:] and y.channels + c <= 160]
            if not others:
                return x
            y = self.choose("other part", others)
            joined = g.node("Concat", x.name, y.name, axis=1)
            return replace(x, name=joined, channels=c + y.channels, step=0.5, levels=x.levels if x.levels == y.levels else ())
        if kind == "shuffle":
            groups = self.choose("shuffle groups", [d for d in (1, 2, 3, 4, 8) if c % d == 0])
            split = g.reshape(x.name, (1, groups, c // groups, x.height, x.width))
            turned = g.node("Transpose", split, perm=[0, 2, 1, 3, 4])
            return replace(x, name=g.reshape(turned, (1, c, x.height, x.width)))
        if kind in ("slice", "split_concat") and c > 1:
            at = self.draw(st.integers(1, c - 1), label="cut")
            if kind == "slice":
                return replace(x, name=g.slice(x.name, [1], [at], [2**63 - 1]), channels=c - at)
            first, second = g.split(x.name, [at, c - at])
            return replace(x, name=g.node("Concat", second, first, axis=1))
        if kind == "max_pool" and min(x.height, x.width) >= 2:
            y = g.node("MaxPool", x.name, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
            return replace(x, name=y, height=(x.height + 1) // 2, width=(x.width + 1) // 2)
        return x

    def convolved(self, x: FeatureMap) -> FeatureMap:
        kernel = self.choose("kernel", (1, 2, 3, 5))
        dilation = self.choose("dilation", (1, 1, 2))
        padding = self.choose("padding", [p for p in PADDINGS if p != "zero_before_sign"])
        reach = dilation * (kernel - 1)
        if padding == "none" and reach >= min(x.height, x.width):
            padding = "zero"
        stride = self.choose("stride", (1, 1, 2))
        channels = self.choose("channels", CHANNELS)
        divisor = math.gcd(x.channels, channels)
        groups = self.choose("groups", [d for d in range(1, divisor + 1) if divisor % d == 0])
        weight = self.choose("weight", [w for w in WEIGHTS if w != "dead_channel" or channels > 1])
        self.convolutions += 1
        name = f"conv{self.convolutions}"
        y = binary_conv(
            self.g, x.tensor, channels, name, act=None, weight=weight, kernel=kernel, padding=padding, stride=stride, dilation=dilation,
            groups=groups,
        )  # fmt: skip
        if x.levels == BIPOLAR:
            self.bits.append(name)
        lost = reach if padding == "none" else 0
        height, width = ((size - lost - 1) // stride + 1 for size in (x.height, x.width))
        inputs = kernel * kernel * x.channels // groups
        spread = max(0.5, 0.5 * math.sqrt(inputs))
        return FeatureMap(y.name, channels, height, width, x.step / 16, inputs + 1.0, spread)


def _ending(n: _Under, x: FeatureMap) -> None:
    """Declare the output: the last map, its bits through a binary dense layer, or its mean through a float one."""
    g = n.g
    pixels = x.height * x.width
    endings = ["map", "dense"] + (["mean"] if pixels & (pixels - 1) == 0 and x.bound / x.step < 2**16 else [])
    ending = n.choose("ending", endings)
    if ending == "map":
        g.output(g.node("Identity", x.name), "y", [1, x.channels, x.height, x.width])
        return
    if ending == "mean":
        y = g.node("Flatten", g.node("GlobalAveragePool", x.name), axis=1)
        y = g.gemm(y, g.const(g.rng.integers(-2, 3, (5, x.channels))), g.const(g.rng.integers(-4, 5, 5)), transB=1, name="classifier")
    else:
        bits = n.binarized(x)
        flat = g.node("Flatten", bits.name, axis=1)
        y = g.gemm(flat, g.const(random_signs(g, (5, x.channels * pixels))), transB=1, name="dense")
        if bits.levels == BIPOLAR:
            n.bits.append("dense")
    g.output(y, "y", [1, 5])


@st.composite
def binary_networks(draw: st.DrawFn, most_layers: int = 4) -> RandomNetwork:
    """Draw a network: an integer stem, then up to `most_layers` binary convolutions with all that stands between them."""
    opset = draw(st.sampled_from((17, 12, 13, 18, 21)), label="opset")
    height, width = (draw(st.integers(3, 8), label=side) for side in ("height", "width"))
    n = _Under(draw, Graph(opset, seed=draw(st.integers(0, 1000), label="seed of the constants")))
    channels = n.choose("stem channels", CHANNELS)
    stem = integer_stem(n.g, n.g.input("x", [1, 3, height, width]), channels)
    x = n.normalized(FeatureMap(stem.name, channels, height, width, 1.0, 27 * 4.0, 8.0))
    n.floats_seen.append(x)
    for _ in range(draw(st.integers(1, most_layers), label="layers")):
        bits = n.binarized(x)
        for kind in draw(st.lists(st.sampled_from(ON_BITS), max_size=2), label="on bits"):
            bits = n.on_bits(bits, kind)
        n.bits_seen.append(bits)
        x = n.settled(n.convolved(bits))
    _ending(n, x)
    return RandomNetwork(n.g.model(), tuple(n.bits))


def describe(model: onnx.ModelProto) -> str:
    """One line a node: operator, attributes, inputs (constants by shape) and output."""
    constants = {t.name: f"<{'x'.join(map(str, t.dims)) or numpy_helper.to_array(t).item()}>" for t in model.graph.initializer}
    lines = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = f"{numpy_helper.to_array(node.attribute[0].t)}"
            continue
        operands = ", ".join(constants.get(name, name) for name in node.input)
        attributes = ", ".join(f"{a.name}={onnx.helper.get_attribute_value(a)}" for a in node.attribute)
        lines.append(f"{', '.join(node.output)} = {node.op_type}({operands}){' {' + attributes + '}' if attributes else ''}  # {node.name}")
    return f"opset {model.opset_import[0].version}\n" + "\n".join(lines)
