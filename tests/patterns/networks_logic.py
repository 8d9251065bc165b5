"""Two-valued tensors combined with each other: BoolNet's logic, shuffles and splits, FracBNN's mixing and thermometer input."""

from __future__ import annotations

import numpy as np

from .layers import activate, batch_norm, binary_conv, integer_stem
from .networks import network, start
from .onnx_graph import Graph, Tensor


def logical_or(g: Graph, a: str, b: str) -> str:
    """OR as BoolNet exports it: both operands to {0,1}, added, clipped, back to {-1,+1}."""
    halves = [g.node("Div", g.node("Add", v, g.scalar(1)), g.scalar(2)) for v in (a, b)]
    clipped = g.clip(g.node("Add", *halves), 0, 1)
    return g.node("Add", g.node("Mul", clipped, g.scalar(2)), g.scalar(-1))


def _two_bit_tensors(g: Graph, channels: int = 40) -> tuple[Tensor, Tensor]:
    stem = integer_stem(g, g.input("x", [1, 3, 8, 8]), channels)
    return tuple(activate(g, batch_norm(g, stem, 8.0)) for _ in range(2))


@network("BoolNet: OR by Add 1, Div 2, Add, Clip, Mul 2, Add -1; XNOR by Mul; XOR by Mul with Neg", ("or", "xnor", "xor"))
def bool_logic(g: Graph) -> None:
    a, b = _two_bit_tensors(g)
    logic = {
        "or": logical_or(g, a.name, b.name),
        "xnor": g.node("Mul", a.name, b.name),
        "xor": g.node("Mul", g.node("Neg", a.name), b.name),
    }
    for name, value in logic.items():
        g.output(binary_conv(g, a._replace(name=value), 9, name, act=None), f"y_{name}", [1, 9, 8, 8])


@network("other spellings of logic: Max, Min, product of {0,1}, clipped sum, Equal", ("max", "min", "and", "sum", "equal"), opset=11)
def other_logic(g: Graph) -> None:
    a, b = _two_bit_tensors(g)
    zero_one = [g.node("Mul", g.node("Add", v.name, g.scalar(1)), g.scalar(0.5)) for v in (a, b)]
    logic = {
        "max": g.node("Max", a.name, b.name),
        "min": g.node("Min", a.name, b.name),
        "and": g.node("Mul", *zero_one),
        "sum": g.clip(g.node("Add", *zero_one), 0, 1),
        "equal": g.node("Where", g.node("Equal", a.name, b.name), g.scalar(1), g.scalar(-1)),
    }
    for name, value in logic.items():
        g.output(binary_conv(g, a._replace(name=value), 9, name, act=None), f"y_{name}", [1, 9, 8, 8])


@network("a sum of two binary tensors takes three values: not logic, and the convolution behind it is not binary", ("direct",), ("stem",))
def sum_is_not_logic(g: Graph) -> None:
    a, b = _two_bit_tensors(g)
    total = a._replace(name=g.node("Add", a.name, b.name))
    g.output(binary_conv(g, total, 9, "sum", act=None), "y_sum", [1, 9, 8, 8])
    g.output(binary_conv(g, a, 9, "direct", act=None), "y_direct", [1, 9, 8, 8])


@network("BoolNet: k-slice sign by Unsqueeze, Add const(1,k,1,1,1), sign; group-k convolution", ("slices", "last"))
def k_slice_sign(g: Graph) -> None:
    x = start(g, 32)
    shifts = g.const(np.array([-1.5, -0.5, 0.5, 1.5]).reshape(1, 4, 1, 1, 1))
    five = g.node("Add", g.unsqueeze(x.name, [1]), shifts)
    bits = g.node("Where", g.greater_equal(five, g.scalar(0)), g.scalar(1), g.scalar(-1))
    y = binary_conv(g, Tensor(g.reshape(bits, (1, 128, 8, 8)), 128), 32, "slices", act=None, groups=4, padding="edge")
    g.output(binary_conv(g, batch_norm(g, y, 17.0), 8, "last"), "y", [1, 8, 8, 8])


@network("channel shuffle by Concat, Transpose, Reshape, and split by Slice", ("left", "right", "last"))
def shuffle_and_split(g: Graph) -> None:
    a, b = _two_bit_tensors(g)
    left = activate(g, batch_norm(g, binary_conv(g, a, 40, "left", act=None), 19.0))
    both = g.node("Concat", left.name, b.name, axis=1)
    shuffled = g.node("Transpose", g.reshape(both, (1, 2, 40, 8, 8)), perm=[0, 2, 1, 3, 4])
    shuffled = g.reshape(shuffled, (1, 80, 8, 8))
    first, second = g.slice(shuffled, [1], [0], [33]), g.slice(shuffled, [1], [33], [2**63 - 1])
    y = batch_norm(g, binary_conv(g, Tensor(first, 33), 47, "right", act=None), 17.0)
    merged = logical_or(g, activate(g, y).name, second)
    g.output(binary_conv(g, Tensor(merged, 47), 8, "last", act=None), "y", [1, 8, 8, 8])


@network("BoolNet block: binary shortcut by XNOR, binary 1x1 with max-pool downsample, dilation", ("conv1", "conv2", "down", "last"))
def bool_block(g: Graph) -> None:
    x = activate(g, start(g, 36))
    y = activate(g, batch_norm(g, binary_conv(g, x, 36, "conv1", act=None, padding="edge", groups=4), 9.0))
    y = y._replace(name=g.node("Mul", y.name, x.name))
    z = activate(g, batch_norm(g, binary_conv(g, y, 72, "conv2", act=None, padding="edge", dilation=2, stride=2), 18.0))
    pooled = y._replace(name=g.node("MaxPool", y.name, kernel_shape=[2, 2], strides=[2, 2]))
    down = activate(g, batch_norm(g, binary_conv(g, pooled, 72, "down", act=None, kernel=1, padding="none"), 6.0))
    merged = z._replace(name=logical_or(g, z.name, down.name))
    g.output(binary_conv(g, merged, 8, "last", act=None), "y", [1, 8, 4, 4])


@network("local adaptive shifting: float depthwise 3x3 + BN before the sign", ("conv1", "conv2"), ("stem", "shift"))
def local_adaptive_shift(g: Graph) -> None:
    x = start(g, 32)
    y = binary_conv(g, x, 32, "conv1")
    w = g.const(g.rng.integers(-2, 3, (32, 1, 3, 3)) / 2)
    shifted = g.node("Conv", y.name, w, name="shift", group=32, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    g.output(binary_conv(g, batch_norm(g, Tensor(shifted, 32), 32.0, step=0.5), 8, "conv2"), "y", [1, 8, 8, 8])


def _two_convolutions(g: Graph) -> tuple[str, str, str]:
    x = start(g)
    w = g.node("Sign", g.const(g.rng.normal(size=(33, 40, 3, 3)), "shared"))
    coarse = activate(g, x)
    fine = activate(g, x._replace(name=g.node("Sub", x.name, g.scalar(0.5))))
    a, b = (g.node("Conv", v.name, w, name=n, kernel_shape=[3, 3], pads=[1] * 4) for v, n in ((coarse, "conv1"), (fine, "conv2")))
    return a, b, g.node("Greater", a, g.scalar(5))


@network("run-time mixing: Where(mask, conv1, conv2) with one weight tensor (FracBNN)", ("conv1", "conv2"))
def mixing_by_where(g: Graph) -> None:
    a, b, mask = _two_convolutions(g)
    g.output(g.node("Where", mask, a, b), "y", [1, 33, 8, 8])


@network("run-time mixing: (1-m)*a + m*b with one weight tensor (FracBNN)", ("conv1", "conv2"))
def mixing_by_sum(g: Graph) -> None:
    a, b, mask = _two_convolutions(g)
    m = g.cast(mask)
    kept = g.node("Mul", g.node("Sub", g.scalar(1), m), a)
    g.output(g.node("Add", kept, g.node("Mul", m, b)), "y", [1, 33, 8, 8])


@network("thermometer input: Less(const, Round(x*255/8)), the first layer is binary too", ("conv1", "conv2"), (), opset=11)
def thermometer_input(g: Graph) -> None:
    """Each of 3 channels becomes 32 bits; `x` counts 255ths, times 8 so that the samples are integers / 255."""
    x = g.input("x", [1, 3, 8, 8])
    scaled = g.node("Div", g.node("Mul", x.name, g.scalar(255)), g.scalar(8))
    levels = g.const(np.arange(-16, 16).reshape(1, 1, 32, 1, 1) * 32)
    bits = g.cast(g.node("Less", levels, g.unsqueeze(g.node("Round", scaled), [2])))
    bipolar = g.node("Sub", g.node("Mul", bits, g.scalar(2)), g.scalar(1))
    y = binary_conv(g, Tensor(g.reshape(bipolar, (1, 96, 8, 8)), 96), 33, "conv1", act=None)
    g.output(binary_conv(g, batch_norm(g, y, 29.0), 8, "conv2"), "y", [1, 8, 8, 8])


@network("ABC-Net: several shifted activation bases, several weight bases, summed", ("base00", "base01", "base10", "base11", "last"))
def abc_net(g: Graph) -> None:
    x = start(g)
    total = None
    for i, shift in enumerate((-0.5, 0.5)):
        bits = activate(g, x._replace(name=g.node("Add", x.name, g.scalar(shift))))
        for j in range(2):
            y = g.node("Mul", binary_conv(g, bits, 33, f"base{i}{j}", act=None).name, g.scalar(0.5 ** (i + j)))
            total = y if total is None else g.node("Add", total, y)
    y = batch_norm(g, Tensor(total, 33), 22.0, step=0.25)
    g.output(binary_conv(g, y, 8, "last"), "y", [1, 8, 8, 8])
