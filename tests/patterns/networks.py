"""Whole small networks, one a row of the document: the table, and the plain ones (padding, geometry, pooling, dense)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from .layers import PADDINGS, activate, batch_norm, binary_conv, classifier, integer_stem
from .onnx_graph import Graph, Tensor
from .weights import latent, random_signs

__all__ = ["Network", "NETWORKS", "network", "start"]


@dataclass(frozen=True)
class Network:
    """A small network.

    Parameters
    ----------
    bits : tuple of str
        ONNX names of the nodes that must run on bits.
    floats : tuple of str
        ONNX names of the nodes that must not: their input or their weight has more than two values.
    custom : bool
        Uses operators of another domain; onnxruntime runs its twin.
    """

    name: str
    emit: Callable[[Graph], None]
    bits: tuple[str, ...]
    floats: tuple[str, ...]
    opset: int
    custom: bool
    source: str

    def model(self, opset: int = 17, *, twin: bool = False, ir: int | None = None) -> onnx.ModelProto:
        g = Graph(opset, ir=ir, twin=twin, seed=len(self.name))
        self.emit(g)
        return g.model()


NETWORKS: dict[str, Network] = {}


def network(
    source: str, bits: tuple[str, ...], floats: tuple[str, ...] = ("stem",), *, opset: int = 9, custom: bool = False
) -> Callable[[Callable[[Graph], None]], Callable[[Graph], None]]:
    """Enter the decorated builder in `NETWORKS` under its own name."""

    def enter(emit: Callable[[Graph], None]) -> Callable[[Graph], None]:
        NETWORKS[emit.__name__] = Network(emit.__name__, emit, bits, floats, opset, custom, source)
        return emit

    return enter


def start(g: Graph, channels: int = 40, size: int = 8) -> Tensor:
    """Input `x`, integer stem and BatchNormalization: what every network here begins with."""
    return batch_norm(g, integer_stem(g, g.input("x", [1, 3, size, size]), channels), 8.0)


def _padding_branches(g: Graph, kinds: tuple[str, ...], act: str = "where_ge", **geometry: int) -> None:
    x = start(g)
    for kind in kinds:
        y = binary_conv(g, x, 9, kind, act=act, padding=kind, **geometry)
        g.output(y, f"y_{kind}", [1, 9, None, None])


PLAIN_PADDINGS = tuple(kind for kind in PADDINGS if not kind.endswith("subgraph"))


@network("padding: constant -1 and +1, edge, zero, before the sign", PLAIN_PADDINGS)
def paddings(g: Graph) -> None:
    _padding_branches(g, PLAIN_PADDINGS)


@network("padding, stride 2, 5x5", PLAIN_PADDINGS)
def paddings_strided(g: Graph) -> None:
    _padding_branches(g, PLAIN_PADDINGS, kernel=5, stride=2)


@network("padding, dilation 2", PLAIN_PADDINGS)
def paddings_dilated(g: Graph) -> None:
    _padding_branches(g, PLAIN_PADDINGS, dilation=2)


@network("padding, groups", PLAIN_PADDINGS)
def paddings_grouped(g: Graph) -> None:
    x = start(g, 36)
    for kind in PLAIN_PADDINGS:
        g.output(binary_conv(g, x, 9, kind, padding=kind, groups=3), f"y_{kind}", [1, 9, 8, 8])


@network("padding of a ternary activation (plain Sign)", PLAIN_PADDINGS)
def paddings_ternary(g: Graph) -> None:
    _padding_branches(g, PLAIN_PADDINGS, act="torch_sign")


@network("padding: level 0 of {0,1}", ("zero", "plus_one"))
def padding_of_zero_one(g: Graph) -> None:
    _padding_branches(g, ("zero", "plus_one"), act="gt_cast")


@network("padding: level 0 of k-bit", (), ("stem", "zero"), opset=11)
def padding_of_two_bits(g: Graph) -> None:
    _padding_branches(g, ("zero",), act="max_min_reciprocal")


SUBGRAPH_PADDINGS = tuple(kind for kind in PADDINGS if kind.endswith("subgraph"))


@network("the pad vector as a subgraph (ConstantOfShape Concat Reshape Slice Transpose Cast)", SUBGRAPH_PADDINGS, opset=11)
def padding_subgraphs(g: Graph) -> None:
    _padding_branches(g, SUBGRAPH_PADDINGS)


@network("classifier: stem, BN, two binary convolutions, global pooling, Gemm", ("conv1", "conv2"), ("stem", "classifier"))
def classifier_network(g: Graph) -> None:
    y = binary_conv(g, start(g), 33, "conv1", stride=2)
    y = binary_conv(g, batch_norm(g, y, 19.0), 64, "conv2", kernel=1, padding="none")
    g.output(classifier(g, batch_norm(g, y, 5.7)), "y", [1, 10])


WORD_EDGES = (31, 32, 33, 63, 64, 65, 127, 128, 129)


@network("word edges: channels 1, 31, 32, 33, 63, 64, 65, 127, 128, 129", (*(f"to{c}" for c in WORD_EDGES), "last"))
def word_edges(g: Graph) -> None:
    y = start(g, 1, 4)
    for c in WORD_EDGES:
        y = batch_norm(g, binary_conv(g, y, c, f"to{c}", kernel=1, padding="none"), max(2.0, y.channels**0.5))
    g.output(binary_conv(g, y, 8, "last"), "y", [1, 8, 4, 4])


@network("MaxPool between convolution and BN: OR or AND by the sign of gamma", ("conv1", "conv2", "conv3"))
def max_pool_before_sign(g: Graph) -> None:
    y = binary_conv(g, start(g), 33, "conv1")
    y = y._replace(name=g.node("MaxPool", y.name, kernel_shape=[2, 2], strides=[2, 2]))
    y = binary_conv(g, batch_norm(g, y, 19.0), 33, "conv2")
    y = batch_norm(g, y, 17.0)
    pooled = g.node("MaxPool", activate(g, y).name, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    g.output(binary_conv(g, y._replace(name=pooled), 8, "conv3", act=None), "y", [1, 8, 4, 4])


@network("MaxPool of ternary values, before and behind a plain Sign", ("conv1", "conv2", "conv3", "wide", "last"))
def max_pool_of_ternary(g: Graph) -> None:
    x = start(g)
    pool = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [0, 0, 1, 1]}
    y = binary_conv(g, x, 33, "conv1")
    y = binary_conv(g, y._replace(name=g.node("MaxPool", y.name, **pool)), 33, "conv2", act="torch_sign")
    pooled = y._replace(name=g.node("MaxPool", activate(g, y, "torch_sign").name, **pool))
    g.output(binary_conv(g, pooled, 8, "conv3", act=None), "y", [1, 8, 8, 8])
    wide = binary_conv(g, x, 65, "wide", act="torch_sign", kernel=5, padding="edge")
    wide = wide._replace(name=g.node("MaxPool", wide.name, kernel_shape=[2, 2], strides=[2, 2]))
    g.output(binary_conv(g, wide, 8, "last", act="larq_heaviside"), "z", [1, 8, 4, 4])


BETWEEN = ("relu", "prelu", "rprelu", "hardtanh", "xnor", "last")


@network("ReLU, PReLU, RPReLU, hardtanh and XNOR-Net's order between accumulator and sign", BETWEEN)
def between_conv_and_sign(g: Graph) -> None:
    y = start(g)
    y = binary_conv(g, y, 40, "relu")
    y = batch_norm(g, y._replace(name=g.node("Relu", y.name)), 16.0)
    y = batch_norm(g, binary_conv(g, y, 40, "prelu"), 19.0)
    y = y._replace(name=g.node("PRelu", y.name, g.const(g.rng.choice([-0.5, 0.125, 0.25], (40, 1, 1)))))
    y = batch_norm(g, binary_conv(g, y, 40, "rprelu"), 19.0)
    shifted = g.node("Sub", y.name, g.const(y.per_channel(g.rng.integers(-3, 4, 40) / 4)))
    bent = g.node("PRelu", shifted, g.const(np.full((40, 1, 1), 0.25)))
    y = y._replace(name=g.node("Add", bent, g.const(y.per_channel(g.rng.integers(-3, 4, 40) / 4))))
    y = batch_norm(g, binary_conv(g, y, 40, "hardtanh"), 19.0)
    y = binary_conv(g, y._replace(name=g.clip(y.name, -1, 1)), 40, "xnor", weight="mean_abs_sign")
    y = batch_norm(g, y._replace(name=g.node("Relu", y.name)), 8.0, step=0.5)
    g.output(binary_conv(g, y, 8, "last"), "y", [1, 8, 8, 8])


def _flat_bits(g: Graph) -> Tensor:
    """Bits of a 4x4 feature map, flattened in NCHW order: 33 * 16 of them."""
    bits = activate(g, start(g, 33, 4))
    return Tensor(g.node("Flatten", bits.name, axis=1), 33 * 16, 2)


@network("dense: flatten NCHW before Gemm, two binary Gemm, float last layer", ("dense1", "dense2"), ("stem", "dense3"))
def dense_gemm(g: Graph) -> None:
    y = _flat_bits(g)
    y = Tensor(g.gemm(y.name, g.const(random_signs(g, (65, 528))), transB=1, name="dense1"), 65, 2)
    bits = activate(g, batch_norm(g, y, 23.0))
    bias = g.const(g.rng.integers(-4, 5, 31))
    y = Tensor(g.gemm(bits.name, g.const(random_signs(g, (65, 31))), bias, alpha=0.5, beta=2.0, name="dense2"), 31, 2)
    y = batch_norm(g, y, 4.0, step=0.5)
    g.output(g.gemm(y.name, g.const(g.rng.integers(-2, 3, (31, 10))), name="dense3"), "y", [1, 10])


@network("dense: MatMul + Add, transposed and reshaped weights, sign of latent weights", ("dense1", "dense2", "dense3"))
def dense_matmul(g: Graph) -> None:
    y = _flat_bits(g)
    w = g.node("Transpose", g.node("Sign", g.const(g.rng.normal(size=(65, 528)))), perm=[1, 0])
    y = y._replace(name=g.node("Add", g.node("MatMul", y.name, w, name="dense1"), g.const(g.rng.integers(-9, 10, 65))), channels=65)
    bits = activate(g, y, "where_gt")
    w = g.reshape(g.const(random_signs(g, (65 * 33, 1))), (65, 33))
    y = Tensor(g.node("MatMul", bits.name, w, name="dense2"), 33, 2)
    bits = activate(g, batch_norm(g, y, 8.0), "torch_sign")
    g.output(g.node("MatMul", bits.name, g.const(random_signs(g, (33, 10)) * 0.5), name="dense3"), "y", [1, 10])


@network("dense: weights on the left of MatMul, W x, and vectors without a batch axis", ("left", "stack", "vector"))
def dense_transposed(g: Graph) -> None:
    bits = activate(g, start(g, 33, 4))
    columns = g.reshape(bits.name, (33, 16))
    g.output(g.node("MatMul", g.const(random_signs(g, (9, 33))), columns, name="left"), "y_left", [9, 16])
    g.output(g.node("MatMul", g.const(random_signs(g, (9, 33))), g.reshape(bits.name, (2, 33, 8)), name="stack"), "y_stack", [2, 9, 8])
    g.output(g.node("MatMul", g.reshape(bits.name, (528,)), g.const(random_signs(g, (528, 7))), name="vector"), "y_vector", [7])


@network("FINN-ONNX: XnorPopcountMatMul", ("dense1",), opset=9, custom=True)
def xnor_popcount_matmul(g: Graph) -> None:
    """Both operands hold {0,1} for {-1,+1}; the result is the number of agreeing bits."""
    y = Tensor(g.node("Flatten", activate(g, start(g, 33, 4), "gt_cast").name, axis=1), 528, 2)
    w = g.const((random_signs(g, (528, 20)) + 1) / 2)
    if not g.twin:
        y = g.custom("XnorPopcountMatMul", y.name, w, domain="finn.custom_op.general", name="dense1")
    else:
        bipolar = [g.node("Sub", g.node("Mul", v, g.scalar(2)), g.scalar(1)) for v in (y.name, w)]
        y = g.node("Mul", g.node("Add", g.node("MatMul", *bipolar), g.scalar(528)), g.scalar(0.5))
    g.output(y, "y", [1, 20])


@network("BatchNorm folded into latent weights: Sign(W * gamma), bias added", ("conv1",))
def batch_norm_in_latent_weights(g: Graph) -> None:
    bits = activate(g, start(g))
    gamma = g.const(g.rng.choice([-0.5, 0.25, 2.0], (33, 1, 1, 1)))
    w = g.node("Sign", g.node("Mul", g.const(latent(g, (33, 40, 3, 3))), gamma))
    y = g.node("Conv", bits.name, w, g.const(g.rng.integers(-4, 5, 33) / 2), name="conv1", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    g.output(y, "y", [1, 33, 8, 8])
