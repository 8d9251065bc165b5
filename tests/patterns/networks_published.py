"""Whole small networks: structures that authors' own code leaves in a graph."""

from __future__ import annotations

import numpy as np

from .layers import activate, batch_norm, binary_conv
from .networks import network, start
from .onnx_graph import Graph, Tensor
from .weights import latent, random_signs


@network("one weight used by two convolutions, of different strides", ("conv1", "conv2"))
def one_weight_twice(g: Graph) -> None:
    w = g.const(random_signs(g, (40, 40, 3, 3)))
    x = start(g)
    y = Tensor(g.node("Conv", activate(g, x).name, w, name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 40)
    bits = activate(g, batch_norm(g, y, 19.0))
    g.output(Tensor(g.node("Conv", bits.name, w, name="conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), 40), "y", [1, 40, 4, 4])


@network("one latent weight, binarized and scaled once, used by two convolutions, one dilated", ("conv1", "conv2"))
def one_latent_weight_twice(g: Graph) -> None:
    w = g.node("Mul", g.const(np.full((40, 1, 1, 1), 0.5)), g.node("Sign", g.const(latent(g, (40, 40, 3, 3)))))
    x = start(g)
    y = Tensor(g.node("Conv", activate(g, x).name, w, name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 40)
    bits = activate(g, batch_norm(g, y, 9.0, step=0.5))
    g.output(Tensor(g.node("Conv", bits.name, w, name="conv2", kernel_shape=[3, 3], pads=[2, 2, 2, 2], dilations=[2, 2]), 40), "y", [1, 40, 8, 8])


@network("one binarized tensor read by a 3x3, a 1x1, a pool in front of a convolution, and a mean that leaves the network", ("3x3", "1x1", "pooled"))
def several_consumers(g: Graph) -> None:
    bits = activate(g, start(g), "torch_sign")
    g.output(binary_conv(g, bits, 9, "3x3", act=None), "y", [1, 9, 8, 8])
    g.output(binary_conv(g, bits, 9, "1x1", act=None, kernel=1, padding="none"), "z", [1, 9, 8, 8])
    pooled = g.node("MaxPool", bits.name, kernel_shape=[2, 2], strides=[2, 2])
    g.output(binary_conv(g, bits._replace(name=pooled), 9, "pooled", act=None), "p", [1, 9, 4, 4])
    g.output(Tensor(g.node("GlobalAveragePool", bits.name), 40), "mean", [1, 40, 1, 1])


LOPSIDED = [("MaxPool", [0, 0, 1, 1]), ("MaxPool", [1, 0, 0, 1]), ("AveragePool", [0, 0, 1, 1]), ("AveragePool", [1, 0, 0, 1])]


@network("lopsided pool pads, in front of the sign and behind it", tuple(f"{order}{i}" for i in range(len(LOPSIDED)) for order in ("front", "behind")))
def lopsided_pools(g: Graph) -> None:
    x = start(g)
    for i, (kind, pads) in enumerate(LOPSIDED):
        average = kind == "AveragePool"
        options = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads} | ({"count_include_pad": i % 2} if average else {})
        y = binary_conv(g, x, 33, f"source{i}")
        y = batch_norm(g, Tensor(g.node(kind, y.name, **options), 33), 19.0, step=None if average else 1.0)
        g.output(binary_conv(g, y, 8, f"front{i}"), f"front_{i}", [1, 8, None, None])
        bits = activate(g, x)
        pooled = Tensor(g.node(kind, bits.name, **options), 40)
        pooled = activate(g, pooled) if average else pooled
        g.output(binary_conv(g, pooled, 8, f"behind{i}", act=None), f"behind_{i}", [1, 8, None, None])


@network("scales and shifts as 4-D tensors: of channels, of rows, of channels and columns; both signs", ("conv1", "conv2", "last"))
def scales_of_four_dimensions(g: Graph) -> None:
    y = binary_conv(g, start(g), 40, "conv1")
    y = y._replace(name=g.node("Mul", y.name, g.const(g.rng.choice([-0.5, 0.25, 0.5], (1, 40, 1, 1)))))
    y = y._replace(name=g.node("Add", y.name, g.const(g.rng.choice([-0.5, 0.25, 0.5], (1, 40, 1, 1)))))
    y = binary_conv(g, y, 40, "conv2", act="where_gt")
    y = y._replace(name=g.node("Mul", y.name, g.const(g.rng.choice([0.25, 0.5], (1, 1, 8, 1)))))
    y = y._replace(name=g.node("Mul", y.name, g.const(g.rng.choice([-0.5, 0.5], (1, 40, 1, 8)))))
    g.output(binary_conv(g, y, 8, "last"), "y", [1, 8, 8, 8])


@network("a scale of each channel on the binarized tensor: signs, and magnitudes that make planes of the filters", ("signs", "magnitudes", "groups"))
def scales_of_input_channels(g: Graph) -> None:
    bits = activate(g, start(g))
    for name, values, groups in (("signs", [-0.5, 0.5], 1), ("magnitudes", [-0.5, 0.25, 0.5], 1), ("groups", [-0.25, 0.25], 4)):
        scaled = bits._replace(name=g.node("Mul", bits.name, g.const(g.rng.choice(values, (1, 40, 1, 1)))))
        g.output(binary_conv(g, scaled, 8, name, act=None, groups=groups), f"y_{name}", [1, 8, 8, 8])


@network("scales of channels that are all different: the layer stays float, and says why", (), ("stem", "conv1"))
def real_scales_of_input_channels(g: Graph) -> None:
    bits = activate(g, start(g))
    scaled = bits._replace(name=g.node("Mul", bits.name, g.const(g.rng.permutation(np.arange(40)).reshape(1, 40, 1, 1) / 64 + 0.125)))
    g.output(binary_conv(g, scaled, 8, "conv1", act=None), "y", [1, 8, 8, 8])


@network("comparisons with thresholds on an axis of their own, summed over it, and bucketize's broadcast", ("last",), opset=13)
def stacked_comparisons(g: Graph) -> None:
    x = start(g)
    test = g.node("Greater", g.unsqueeze(x.name, [4]), g.const([-0.5, 0.25, 0.75]))
    y = x._replace(name=g.node("ReduceSum", g.cast(test), g.const([-1], dtype=np.int64), keepdims=0))
    y = batch_norm(g, binary_conv(g, y, 33, "last", act=None), 30.0)
    test = g.node("LessOrEqual", g.const(np.broadcast_to(np.reshape([-0.25, 0.5, 1.0], (3, 1, 1, 1, 1)), (3, 1, 33, 8, 8))), y.name)
    y = y._replace(name=g.node("ReduceSum", g.cast(test), g.const([0], dtype=np.int64), keepdims=0))
    g.output(binary_conv(g, y, 8, "front", act=None), "y", [1, 8, 8, 8])


@network("float16: weights stored, and binarized, in half precision, with casts between", ("conv1", "last"))
def half_precision(g: Graph) -> None:
    x = start(g)
    half = g.const(latent(g, (33, 40, 3, 3)), dtype=np.float16)
    w = g.cast(g.node("Sign", half))
    y = Tensor(g.node("Conv", activate(g, x, "torch_sign").name, w, name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 33)
    y = batch_norm(g, y, 19.0)
    bits = y._replace(name=g.cast(g.node("Sign", g.cast(y.name, to=10))))
    g.output(binary_conv(g, bits, 8, "last", act=None), "y", [1, 8, 8, 8])
