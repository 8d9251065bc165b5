"""Two-valued activations met in published code: the second table of the document."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .activations import BIPOLAR, HEAVISIDE, TERNARY
from .onnx_graph import Graph, Tensor
from .spelling import activation


@activation("{0,1} activations: Sign(Clip(Relu(x),0,1))", 0, HEAVISIDE)
def sign_clipped_relu(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.clip(g.node("Relu", x.name), 0, 1))


@activation("zero-guarded sign, without a Cast of the Equal", 1, BIPOLAR, opset=11)
def zero_guarded(g: Graph, x: Tensor) -> str:
    is_zero = g.node("Equal", g.node("Sign", x.name), g.scalar(0))
    return g.node("Where", is_zero, g.scalar(1), g.node("Sign", x.name))


@activation("zero-guarded sign, with a Cast of the Equal", 1, BIPOLAR, opset=11)
def zero_guarded_cast(g: Graph, x: Tensor) -> str:
    sign = g.node("Sign", x.name)
    is_zero = g.cast(g.node("Equal", sign, g.scalar(0)), TensorProto.BOOL)
    return g.node("Where", is_zero, g.scalar(1), sign)


@activation("zero-guarded sign, applied twice", 1, BIPOLAR, opset=11)
def zero_guarded_twice(g: Graph, x: Tensor) -> str:
    return zero_guarded_cast(g, Tensor(zero_guarded_cast(g, x), x.channels, x.rank))


@activation("Brevitas, plain torch export", 1, BIPOLAR)
def brevitas_plain(g: Graph, x: Tensor) -> str:
    """Brevitas' tensor_clamp (two nested Where) and binary_sign times a scale that the export leaves as a subgraph."""
    scale = g.node("Div", g.scalar(1), g.node("Abs", g.node("Abs", g.const(1.0))))
    low = g.node("Neg", scale)
    upper = g.node("Where", g.node("Greater", x.name, scale), scale, x.name)
    clamped = g.node("Where", g.node("Less", upper, low), low, upper)
    bit = g.cast(g.greater_equal(clamped, g.scalar(0)))
    return g.node("Mul", g.node("Sub", g.node("Mul", bit, g.scalar(2)), g.scalar(1)), scale)


@activation("sign behind a monotone function: Sign(Tanh(Mul(x,5)))", 0, TERNARY)
def sign_of_tanh_mul(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.node("Tanh", g.node("Mul", x.name, g.scalar(5))))


@activation("sign behind a monotone function: Sign(Clip(Div(x,c),-1,1))", 0, TERNARY)
def sign_of_clip_div(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.clip(g.node("Div", x.name, g.scalar(1.5)), -1, 1))


def _slopes(g: Graph, x: Tensor, choices: list[float]) -> str:
    return g.const(g.rng.choice(choices, (x.channels,) + (1,) * (x.rank - 2)))


@activation("sign behind a monotone function: Sign(PRelu)", 0, TERNARY)
def sign_of_prelu(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.node("PRelu", x.name, _slopes(g, x, [0.125, 0.25, 0.5])))


@activation("sign behind a PRelu that is not monotone in some channels", 0, TERNARY)
def sign_of_prelu_mixed(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.node("PRelu", x.name, _slopes(g, x, [-0.5, -0.25, 0.0, 0.25])))


def _offsets(g: Graph, x: Tensor) -> str:
    return g.const(x.per_channel(g.rng.integers(-4, 5, x.channels) / 8))


@activation("ReActNet RSign: a per-channel shift before the sign", None, BIPOLAR)
def rsign(g: Graph, x: Tensor) -> str:
    shifted = g.node("Add", x.name, _offsets(g, x))
    return g.node("Where", g.greater_equal(shifted, g.scalar(0)), g.scalar(1), g.scalar(-1))


@activation("ReActNet RSign: per-channel thresholds, compared directly", None, BIPOLAR)
def threshold_tensor(g: Graph, x: Tensor) -> str:
    return g.node("Where", g.greater_equal(x.name, _offsets(g, x)), g.scalar(1), g.scalar(-1))


@activation("comparison with the operands exchanged", -1, BIPOLAR)
def less_exchanged(g: Graph, x: Tensor) -> str:
    return g.node("Where", g.node("Less", g.scalar(0), x.name), g.scalar(1), g.scalar(-1))


@activation("AdaBin a*(sign((x-b)/a) + b)", -1, (-1.0, 1.0, 3.0), packs=None)
def adabin(g: Graph, x: Tensor) -> str:
    """The two values are a*(-1+b) and a*(1+b) with a = 2, b = 0.5; at x = b there is a third, a*b."""
    a, b = g.const([[[[2.0]]]]), g.const([[[[0.5]]]])
    sign = g.node("Sign", g.node("Div", g.node("Sub", x.name, b), a))
    return g.node("Mul", a, g.node("Add", sign, b))


@activation("AdaBin behind Maxout c1*Relu(x) - c2*Relu(-x)", -0.5, (-0.5, 0.0, 0.5))
def adabin_maxout(g: Graph, x: Tensor) -> str:
    """Maxout is monotone for c1, c2 > 0; b is 1/16 before the sign and left out behind it."""
    positive = g.node("Mul", g.const(x.per_channel([2.0])), g.node("Relu", x.name))
    negative = g.node("Mul", g.const(x.per_channel([0.5])), g.node("Relu", g.node("Neg", x.name)))
    maxout = g.node("Sub", positive, negative)
    a = g.const(0.5)
    return g.node("Mul", a, g.node("Sign", g.node("Div", g.node("Sub", maxout, g.const(0.0625)), a)))


@activation("run-time thresholds: Sign((x-mean)/std) per sample", 0, TERNARY)
def sign_standardised(g: Graph, x: Tensor) -> str:
    axes = list(range(1, x.rank))
    centred = g.node("Sub", x.name, g.reduce("ReduceMean", x.name, axes))
    variance = g.reduce("ReduceMean", g.node("Mul", centred, centred), axes)
    std = g.node("Sqrt", g.node("Add", variance, g.scalar(1e-5)))
    return g.node("Sign", g.node("Div", centred, std))


@activation("run-time thresholds: Sign(x + Sigmoid(FC(GAP(x))))", 1, TERNARY)
def sign_shifted_at_run_time(g: Graph, x: Tensor) -> str:
    pooled = g.node("Flatten", g.node("GlobalAveragePool", x.name), axis=1)
    fc = g.const(g.rng.choice([-0.125, 0.125, 0.25], (x.channels, x.channels)))
    shift = g.node("Sigmoid", g.gemm(pooled, fc, g.const(np.full(x.channels, 0.0625)), transB=1))
    return g.node("Sign", g.node("Add", x.name, g.unsqueeze(shift, [2, 3])))
