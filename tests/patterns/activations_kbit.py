"""Activations of k >= 2 bits, as published code rounds them."""

from __future__ import annotations

from .onnx_graph import Graph, Tensor
from .spelling import activation

THIRDS = (0.0, 1 / 3, 2 / 3, 1.0)


@activation("DoReFa k bits: Clip Mul Round Div", 0, THIRDS, opset=11)
def dorefa_2_bits(g: Graph, x: Tensor) -> str:
    scaled = g.node("Mul", g.clip(x.name, 0, 1), g.scalar(3))
    return g.node("Div", g.node("Round", scaled), g.scalar(3))


@activation("DoReFa one bit: Clip Round", 0, (0.0, 1.0), packs=True, opset=11)
def dorefa_1_bit(g: Graph, x: Tensor) -> str:
    return g.node("Round", g.clip(x.name, 0, 1))


@activation("DoReFa through tf2onnx: Min Max Mul Round Mul", 0, (0.0, 0.25, 0.5, 0.75), opset=11)
def dorefa_tf2onnx(g: Graph, x: Tensor) -> str:
    clipped = g.node("Max", g.node("Min", x.name, g.const(0.75)), g.const(0.0))
    return g.node("Mul", g.node("Round", g.node("Mul", clipped, g.const(4.0))), g.const(0.25))


@activation("PACT k bits: 0.5*(|x|-|x-a|+a), rounded", 0, (0.0, 0.5, 1.0, 1.5), opset=11)
def pact_2_bits(g: Graph, x: Tensor) -> str:
    alpha = g.const(1.5)
    bent = g.node("Sub", g.node("Abs", x.name), g.node("Abs", g.node("Sub", x.name, alpha)))
    clipped = g.node("Mul", g.node("Add", bent, alpha), g.scalar(0.5))
    steps = g.node("Round", g.node("Div", g.node("Mul", clipped, g.scalar(3)), alpha))
    return g.node("Div", g.node("Mul", steps, alpha), g.scalar(3))


@activation("Max(Min()) for Clip, Mul(Reciprocal(a), n)", 0, (0.0, 0.5, 1.0, 1.5), opset=11)
def max_min_reciprocal(g: Graph, x: Tensor) -> str:
    alpha = g.const(1.5)
    clipped = g.node("Max", g.node("Min", x.name, alpha), g.const(0.0))
    factor = g.node("Mul", g.node("Reciprocal", g.const(0.5)), g.const(1.0))
    return g.node("Mul", g.node("Round", g.node("Mul", clipped, factor)), g.const(0.5))


@activation("round half away: Sign(x)*Floor(Abs(x)+0.5)", 0, (-2.0, -1.0, 0.0, 1.0))
def round_half_away(g: Graph, x: Tensor) -> str:
    clipped = g.clip(x.name, -2, 1)
    floor = g.node("Floor", g.node("Add", g.node("Abs", clipped), g.scalar(0.5)))
    return g.node("Mul", g.node("Sign", clipped), floor)


def _sum_of_comparisons(g: Graph, x: Tensor, thresholds: list[float]) -> str:
    total = None
    for threshold in thresholds:
        bit = g.cast(g.greater_equal(x.name, g.scalar(threshold)))
        total = bit if total is None else g.node("Add", total, bit)
    return total


@activation("sum of 3 comparisons", 2, (0.0, 1.0, 2.0, 3.0))
def three_comparisons(g: Graph, x: Tensor) -> str:
    return _sum_of_comparisons(g, x, [-0.75, 0.0, 0.75])


@activation("sum of 7 comparisons", 4, tuple(float(i) for i in range(8)))
def seven_comparisons(g: Graph, x: Tensor) -> str:
    return _sum_of_comparisons(g, x, [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])


@activation("(Sign+Sign)/2", 0, (-1.0, -0.5, 0.0, 0.5, 1.0))
def two_signs(g: Graph, x: Tensor) -> str:
    low = g.node("Sign", g.node("Sub", x.name, g.scalar(0.5)))
    high = g.node("Sign", g.node("Add", x.name, g.scalar(0.5)))
    return g.node("Div", g.node("Add", low, high), g.scalar(2))


@activation("LSQ's step s - s*g + s*g", 0, (0.0, 0.5, 1.0, 1.5), opset=11)
def lsq_step(g: Graph, x: Tensor) -> str:
    step, gradient = g.const(0.5), g.const(0.0078125)
    scaled = g.node("Mul", step, gradient)
    step = g.node("Add", g.node("Sub", step, scaled), scaled)
    rounded = g.node("Round", g.clip(g.node("Div", x.name, step), 0, 3))
    return g.node("Mul", rounded, step)


@activation("HWGQ: Relu, then thresholds by nested Where", 0, (0.0, 0.5, 1.0, 1.5))
def hwgq_where(g: Graph, x: Tensor) -> str:
    value, positive = g.scalar(0), g.node("Relu", x.name)
    for level, threshold in ((0.5, 0.25), (1.0, 0.75), (1.5, 1.25)):
        value = g.node("Where", g.node("Greater", positive, g.scalar(threshold)), g.scalar(level), value)
    return value
