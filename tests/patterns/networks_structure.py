"""Shortcuts, clutter and exporter idioms around binary convolutions."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .layers import activate, batch_norm, binary_conv, classifier, integer_stem
from .networks import network, start
from .onnx_graph import Graph, Tensor
from .weights import latent, random_signs


@network("tf2onnx from NHWC: Transpose Conv Transpose, Pad(1.0) before it, MatMul of a flattened NHWC map", ("conv1", "conv2", "dense"))
def tf2onnx_nhwc(g: Graph) -> None:
    x = g.input("x", [1, 9, 9, 3])

    def conv(value: str, channels: tuple[int, int], name: str, pads: list[int], w: np.ndarray | None = None) -> str:
        w = random_signs(g, (channels[1], channels[0], 3, 3)) if w is None else w
        nchw = g.node("Transpose", value, perm=[0, 3, 1, 2])
        y = g.node("Conv", nchw, g.const(w), name=name, kernel_shape=[3, 3], strides=[2, 2], pads=pads, dilations=[1, 1], group=1)
        return g.node("Transpose", y, perm=[0, 2, 3, 1])

    def sign(value: str) -> str:
        shifted = g.node("Sub", value, g.const(g.rng.integers(-3, 4, 32)))
        return g.node("Sign", g.node("Add", g.node("Sign", shifted), g.const(0.1)))

    y = sign(conv(x.name, (3, 32), "stem", [1, 1, 1, 1], g.rng.integers(-1, 2, (32, 3, 3, 3)).astype(np.float32)))
    y = sign(conv(y, (32, 32), "conv1", [1, 1, 1, 1]))
    y = g.pad(y, [0, 0, 0, 0, 0, 1, 1, 0], 1.0)
    y = g.reshape(sign(conv(y, (32, 32), "conv2", [0, 0, 1, 1])), (1, 128))
    g.output(g.node("MatMul", y, g.const(random_signs(g, (128, 10))), name="dense"), "y", [1, 10])


@network("tf2onnx: SAME padding with stride 2, pads [0,0,1,1] and [2,2,3,3]", ("conv1", "conv2"))
def tf2onnx_same_padding(g: Graph) -> None:
    x = activate(g, start(g))
    for name, kernel, pads in (("conv1", 3, [0, 0, 1, 1]), ("conv2", 7, [2, 2, 3, 3])):
        w = g.const(random_signs(g, (9, 40, kernel, kernel)))
        y = g.node("Conv", x.name, w, name=name, kernel_shape=[kernel, kernel], pads=pads, strides=[2, 2])
        g.output(y, f"y_{name}", [1, 9, 4, 4])


@network("Bi-Real: float shortcut round every convolution, AvgPool + 1x1 downsample", ("conv1", "conv2", "conv3"), ("stem", "down"))
def float_shortcuts(g: Graph) -> None:
    x = start(g, 32)
    for name in ("conv1", "conv2"):
        y = batch_norm(g, binary_conv(g, x, 32, name, act="torch_sign"), 17.0)
        x = x._replace(name=g.node("Add", y.name, x.name))
    y = batch_norm(g, binary_conv(g, x, 64, "conv3", stride=2), 17.0)
    pooled = g.node("AveragePool", x.name, kernel_shape=[2, 2], strides=[2, 2])
    down = g.node("Conv", pooled, g.const(g.rng.integers(-2, 3, (64, 32, 1, 1)) / 2), name="down", kernel_shape=[1, 1])
    g.output(g.node("Add", y.name, down), "y", [1, 64, 4, 4])


@network("shortcuts: Slice(::2) plus channel Pad, Concat(x,x), binary 1x1/2", ("conv1", "conv2", "conv3", "short", "last"), opset=10)
def other_shortcuts(g: Graph) -> None:
    x = start(g, 32)
    y = batch_norm(g, binary_conv(g, x, 48, "conv1", stride=2), 17.0)
    sliced = g.slice(x.name, [2, 3], [0, 0], [8, 8], [2, 2])
    y = y._replace(name=g.node("Add", y.name, g.pad(sliced, [0, 8, 0, 0, 0, 8, 0, 0])))
    z = batch_norm(g, binary_conv(g, y, 96, "conv2"), 20.0)
    z = z._replace(name=g.node("Add", z.name, g.node("Concat", y.name, y.name, axis=1)))
    main = batch_norm(g, binary_conv(g, z, 64, "conv3", stride=2), 29.0)
    short = batch_norm(g, binary_conv(g, z, 64, "short", kernel=1, stride=2, padding="none"), 9.8)
    z = main._replace(name=g.node("Add", main.name, short.name))
    g.output(binary_conv(g, z, 8, "last"), "y", [1, 8, 2, 2])


@network("Split grouped convolutions, concatenated again", ("part0", "part1", "part2", "last"))
def split_groups(g: Graph) -> None:
    bits = activate(g, start(g, 48))
    parts = [
        binary_conv(g, Tensor(part, size), 16, f"part{i}", act=None).name
        for i, (part, size) in enumerate(zip(g.split(bits.name, [16, 20, 12]), (16, 20, 12)))
    ]
    y = batch_norm(g, Tensor(g.node("Concat", *parts, axis=1), 48), 12.0)
    g.output(binary_conv(g, y, 8, "last"), "y", [1, 8, 8, 8])


@network("grouped and depthwise binary convolutions: any group count", ("groups3", "groups5", "depthwise", "last"))
def any_group_count(g: Graph) -> None:
    y = batch_norm(g, binary_conv(g, start(g, 45), 45, "groups3", groups=3), 11.6)
    y = batch_norm(g, binary_conv(g, y, 70, "groups5", groups=5), 9.0)
    y = batch_norm(g, binary_conv(g, y, 70, "depthwise", groups=70, padding="plus_one"), 3.0)
    g.output(binary_conv(g, y, 8, "last"), "y", [1, 8, 8, 8])


@network("clutter: Identity sharing parameters, Dropout, dead STE parts", ("conv1", "conv2"))
def identities(g: Graph) -> None:
    x = start(g)
    shared = g.const(random_signs(g, (40, 40, 3, 3)), "shared.weight")
    for name in ("conv1", "conv2"):
        g.node("Mul", g.clip(x.name, -1, 1), g.scalar(0.5))  # what an estimator left behind: its output is used by nobody
        value = g.node("Identity", g.node("Dropout", activate(g, x).name))
        y = g.node("Conv", value, g.node("Identity", shared), name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = batch_norm(g, Tensor(y, 40), 19.0)
    g.output(x, "y", [1, 40, 8, 8])


@network("clutter: Expand(c, Shape(x)) as operand of the sign", ("conv1",), opset=9)
def expanded_constants(g: Graph) -> None:
    x = start(g)
    shape = g.node("Shape", x.name)
    one, minus, zero = (g.node("Expand", g.scalar(v), shape) for v in (1, -1, 0))
    bits = g.node("Where", g.greater_equal(x.name, zero), one, minus)
    g.output(binary_conv(g, x._replace(name=bits), 33, "conv1", act=None), "y", [1, 33, 8, 8])


@network("clutter: 5-D Unsqueeze Gather Slice with shape arithmetic", ("conv1",), opset=10)
def five_dimensional(g: Graph) -> None:
    """A stack of two feature maps on a new axis, one picked by Gather, cropped to half its own height by Shape arithmetic."""
    x = start(g)
    stack = g.node("Concat", g.unsqueeze(x.name, [1]), g.unsqueeze(g.node("Neg", x.name), [1]), axis=1)
    picked = g.node("Gather", stack, g.const(1, dtype=np.int64), axis=1)
    height = g.unsqueeze(g.node("Gather", g.node("Shape", picked), g.const(2, dtype=np.int64), axis=0), [0])
    half = g.node("Div", height, g.const([2], dtype=np.int64))
    lists = (g.const([0], dtype=np.int64), half, g.const([2], dtype=np.int64))
    y = binary_conv(g, x._replace(name=g.node("Slice", picked, *lists)), 33, "conv1", act="where_gt")
    g.output(y, "y", [1, 33, 4, 8])


@network("clutter: batch size through Shape Gather Concat Reshape", ("dense",))
def batch_through_shape(g: Graph) -> None:
    bits = activate(g, start(g, 33, 4))
    batch = g.unsqueeze(g.node("Gather", g.node("Shape", bits.name), g.const(0, dtype=np.int64), axis=0), [0])
    flat = g.node("Reshape", bits.name, g.node("Concat", batch, g.const([-1], dtype=np.int64), axis=0))
    g.output(g.gemm(flat, g.const(random_signs(g, (20, 528))), transB=1, name="dense"), "y", [1, 20])


@network("an affine spelled Sub Pow Div Mul Add (Brevitas' scalar batch norm)", ("conv1", "conv2"))
def spelled_out_batch_norm(g: Graph) -> None:
    y = binary_conv(g, start(g), 33, "conv1")
    centred = g.node("Sub", y.name, g.const(4.0))
    root = g.node("Pow", g.node("Add", g.const(255.0), g.const(1.0)), g.scalar(0.5))
    y = y._replace(name=g.node("Add", g.node("Mul", g.node("Div", centred, root), g.const(-2.0)), g.const(0.25)))
    g.output(binary_conv(g, y, 8, "conv2"), "y", [1, 8, 8, 8])


@network("Real-to-Binary: a channel gate computed at run time multiplies the convolution", ("conv1", "conv2"), opset=9)
def run_time_gate(g: Graph) -> None:
    x = start(g, 32)
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x.name), axis=1)
    squeezed = g.node("Relu", g.gemm(pooled, g.const(g.rng.integers(-2, 3, (8, 32)) / 8), transB=1))
    gate = g.node("Sigmoid", g.gemm(squeezed, g.const(g.rng.integers(-2, 3, (32, 8)) / 4), transB=1))
    y = binary_conv(g, x, 32, "conv1")
    y = y._replace(name=g.node("Mul", y.name, g.unsqueeze(gate, [2, 3])))
    y = batch_norm(g, y, 9.0, step=None)
    g.output(binary_conv(g, y, 8, "conv2"), "y", [1, 8, 8, 8])


@network("XNOR-Net's K: mean of |x| over channels, box-filtered, scales the convolution", ("conv1",), opset=9)
def spatial_scale(g: Graph) -> None:
    x = start(g, 32)
    mean = g.reduce("ReduceMean", g.node("Abs", x.name), [1])
    k = g.node("Conv", mean, g.const(np.full((1, 1, 3, 3), 0.125)), name="box", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    y = g.node("Mul", binary_conv(g, x, 33, "conv1").name, k)
    g.output(y, "y", [1, 33, 8, 8])


@network("binary weights behind a float first layer only (BinaryConnect): nothing to run on popcount", (), ("stem", "conv1"))
def binary_weights_alone(g: Graph) -> None:
    x = start(g)
    g.output(binary_conv(g, x._replace(name=g.node("Relu", x.name)), 9, "conv1", act=None), "y", [1, 9, 8, 8])


@network("Sign(Reshape(MatMul(onehot, bank))): the weights are chosen at run time", (), ("stem", "conv1"))
def weights_chosen_at_run_time(g: Graph) -> None:
    bits = activate(g, start(g))
    onehot = g.input("choice", [1, 3])
    bank = g.const(latent(g, (3, 9 * 40, 3, 3)).reshape(3, -1))
    w = g.node("Sign", g.reshape(g.node("MatMul", onehot.name, bank), (9, 40, 3, 3)))
    g.output(g.node("Conv", bits.name, w, name="conv1", kernel_shape=[3, 3]), "y", [1, 9, 6, 6])


@network("float weights behind a binary activation: the layer stays float", (), ("stem", "conv1"))
def float_weights(g: Graph) -> None:
    bits = activate(g, start(g))
    w = g.const(g.rng.integers(-3, 4, (9, 40, 3, 3)))
    g.output(g.node("Conv", bits.name, w, name="conv1", kernel_shape=[3, 3]), "y", [1, 9, 6, 6])


@network("dynamic batch and size, fixed by shapes", ("conv1", "conv2"), ("stem", "classifier"))
def dynamic_shape(g: Graph) -> None:
    x = g.input("x", ["batch", 3, "height", "width"])
    y = batch_norm(g, integer_stem(g, x, 40), 8.0)
    y = binary_conv(g, batch_norm(g, binary_conv(g, y, 33, "conv1", stride=2), 19.0), 64, "conv2", kernel=1, padding="none")
    g.output(classifier(g, batch_norm(g, y, 5.7)), "y", ["batch", 10])


@network("bool and integer casts between comparison and arithmetic", ("conv1",))
def casts_through_integers(g: Graph) -> None:
    x = start(g)
    bit = g.cast(g.greater_equal(x.name, g.scalar(0)), TensorProto.INT64)
    bits = g.cast(g.node("Sub", g.node("Mul", bit, g.scalar(2, np.int64)), g.scalar(1, np.int64)))
    g.output(binary_conv(g, x._replace(name=bits), 33, "conv1", act=None), "y", [1, 33, 8, 8])


@network("bits whose pixels are taken in another order, repeated, and exchanged with channels", ("reordered", "repeated", "rows", "columns"))
def rearranged_pixels(g: Graph) -> None:
    """Sizes and channels agree on purpose: a movement taken for another of the same shape shows."""
    bits = activate(g, start(g, 8))
    order = g.const(g.rng.permutation(8), dtype=np.int64)
    again = g.const([0, 0, 1, 3, 3, 2, 7, 7, 4, 5], dtype=np.int64)
    moved = {
        "reordered": g.node("Gather", bits.name, order, axis=2),
        "repeated": g.node("Gather", g.node("Gather", bits.name, again, axis=3), again, axis=2),
        "rows": g.node("Transpose", bits.name, perm=[0, 2, 1, 3]),
        "columns": g.node("Transpose", bits.name, perm=[0, 3, 2, 1]),
    }
    for name, value in moved.items():
        g.output(binary_conv(g, bits._replace(name=value), 9, name, act=None), f"y_{name}", [1, 9, None, None])
