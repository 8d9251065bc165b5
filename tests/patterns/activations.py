"""Binarizing activations as PyTorch and tf2onnx export them: the first table of the document."""

from __future__ import annotations

import math

from .onnx_graph import Graph, Tensor
from .spelling import activation

BIPOLAR = (-1.0, 1.0)
TERNARY = (-1.0, 0.0, 1.0)
HEAVISIDE = (0.0, 1.0)


@activation("torch.sign", 0, TERNARY)
def torch_sign(g: Graph, x: Tensor) -> str:
    return g.node("Sign", x.name)


@activation("where(x>=0,1,-1)", 1, BIPOLAR)
def where_ge(g: Graph, x: Tensor) -> str:
    return g.node("Where", g.greater_equal(x.name, g.scalar(0)), g.scalar(1), g.scalar(-1))


@activation("where(x>0,1,-1)", -1, BIPOLAR)
def where_gt(g: Graph, x: Tensor) -> str:
    return g.node("Where", g.node("Greater", x.name, g.scalar(0)), g.scalar(1), g.scalar(-1))


@activation("where(x<0,-1,1)", 1, BIPOLAR)
def where_lt(g: Graph, x: Tensor) -> str:
    return g.node("Where", g.node("Less", x.name, g.scalar(0)), g.scalar(-1), g.scalar(1))


@activation("where(x<=0,-1,1)", -1, BIPOLAR, opset=12)
def where_le(g: Graph, x: Tensor) -> str:
    return g.node("Where", g.node("LessOrEqual", x.name, g.scalar(0)), g.scalar(-1), g.scalar(1))


@activation("sign with a repaired zero", 1, BIPOLAR, opset=11)
def sign_repaired(g: Graph, x: Tensor) -> str:
    sign = g.node("Sign", x.name)
    return g.node("Where", g.node("Equal", sign, g.scalar(0)), g.scalar(1), sign)


@activation("detach-STE (sign(x)-clamp(x))+clamp(x)", 0, TERNARY)
def detach_ste(g: Graph, x: Tensor) -> str:
    clamped = g.clip(x.name, -1, 1)
    return g.node("Add", g.node("Sub", g.node("Sign", x.name), clamped), clamped)


@activation("polynomial STE (Bi-Real, ReActNet)", 0, TERNARY)
def polynomial_ste(g: Graph, x: Tensor) -> str:
    """sign(x).detach() - p(x).detach() + p(x), with p pieced together by masks: 26 nodes besides the constants."""

    def blend(mask: str, inside: str, outside: str) -> str:
        left = g.node("Mul", inside, g.cast(mask))
        return g.node("Add", left, g.node("Mul", outside, g.node("Sub", g.scalar(1), g.cast(mask))))

    square = g.node("Mul", x.name, x.name)
    twice = g.node("Mul", x.name, g.scalar(2))
    below, negative, inside = (g.node("Less", x.name, g.scalar(v)) for v in (-1, 0, 1))
    first = blend(below, g.scalar(-1), g.node("Add", square, twice))
    second = blend(negative, first, g.node("Add", g.node("Mul", g.node("Neg", x.name), x.name), twice))
    third = blend(inside, second, g.scalar(1))
    return g.node("Add", g.node("Sub", g.node("Sign", x.name), third), third)


@activation("(x>=0).float()*2-1", 1, BIPOLAR)
def ge_cast_affine(g: Graph, x: Tensor) -> str:
    bit = g.cast(g.greater_equal(x.name, g.scalar(0)))
    return g.node("Sub", g.node("Mul", bit, g.scalar(2)), g.scalar(1))


@activation("x/abs(x)", math.nan, BIPOLAR)
def x_over_abs(g: Graph, x: Tensor) -> str:
    return g.node("Div", x.name, g.node("Abs", x.name))


@activation("masked_fill", 1, BIPOLAR)
def masked_fill(g: Graph, x: Tensor) -> str:
    filled = g.node("Where", g.greater_equal(x.name, g.scalar(0)), g.scalar(1), x.name)
    return g.node("Where", g.node("Less", x.name, g.scalar(0)), g.scalar(-1), filled)


@activation("masked_fill in place: the second mask looks at what the first one left", 1, BIPOLAR)
def masked_fill_in_place(g: Graph, x: Tensor) -> str:
    filled = g.node("Where", g.greater_equal(x.name, g.scalar(0)), g.scalar(1), x.name)
    return g.node("Where", g.node("Less", filled, g.scalar(0)), g.scalar(-1), filled)


@activation("sign(hardtanh(x))", 0, TERNARY)
def sign_hardtanh(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.clip(x.name, -1, 1))


@activation("sign(tanh(x))", 0, TERNARY)
def sign_tanh(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.node("Tanh", x.name))


@activation("(x>0).float() (values {0,1})", 0, HEAVISIDE)
def gt_cast(g: Graph, x: Tensor) -> str:
    return g.cast(g.node("Greater", x.name, g.scalar(0)))


@activation("1-2*signbit(x)", 1, BIPOLAR)
def one_minus_twice_signbit(g: Graph, x: Tensor) -> str:
    bit = g.cast(g.node("Less", x.name, g.scalar(0)))
    return g.node("Sub", g.scalar(1), g.node("Mul", bit, g.scalar(2)))


@activation("larq ste_sign through tf2onnx", 1, BIPOLAR)
def larq_ste_sign(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.node("Add", g.node("Sign", x.name), g.const(0.1)))


@activation("larq where through tf2onnx", 1, BIPOLAR)
def larq_where(g: Graph, x: Tensor) -> str:
    """Both branches of tf.where as products with the condition and its negation; below opset 12 `Less Not Not`."""
    ge = g.greater_equal(x.name, g.const(0.0))
    plus = g.node("Mul", g.cast(ge), g.const([1.0]))
    minus = g.node("Mul", g.cast(g.node("Not", ge)), g.const([-1.0]))
    return g.node("Add", plus, minus)


@activation("larq ste_heaviside", 0, HEAVISIDE)
def larq_heaviside(g: Graph, x: Tensor) -> str:
    return g.node("Sign", g.node("Relu", x.name))


@activation("tf2onnx Sign below opset 9", 0, TERNARY, opset=8)
def tf2onnx_sign_below_9(g: Graph, x: Tensor) -> str:
    zero = g.const(0.0)
    positive = g.cast(g.node("Greater", x.name, zero))
    return g.node("Sub", positive, g.cast(g.node("Less", x.name, zero)))


@activation("OpenVINO/NNCF style: QDQ pairs for k >= 2 bits", 0, tuple(0.03125 * code for code in range(-128, 128)), opset=10)
def qdq_8_bits(g: Graph, x: Tensor) -> str:
    scale, zero = g.const(0.03125), g.const(0, dtype="int8")
    return g.node("DequantizeLinear", g.node("QuantizeLinear", x.name, scale, zero), scale, zero)


@activation("OpenVINO/NNCF style: QDQ pairs for k >= 2 bits", 0, (0.0, 0.5, 1.0, 1.5), opset=10)
def qdq_2_bits(g: Graph, x: Tensor) -> str:
    scale, zero = g.const(0.5), g.const(0, dtype="uint8")
    return g.node("DequantizeLinear", g.node("QuantizeLinear", g.clip(x.name, 0, 1.5), scale, zero), scale, zero)
