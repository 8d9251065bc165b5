"""Quantizers of other domains: QONNX, FINN, Brevitas and OpenVINO.

Where `g.twin` is set each builder emits the same function in standard operators, written from the definition of the
operator, so that onnxruntime gives an expected value that does not depend on bnncc's own lowering.
"""

from __future__ import annotations

import numpy as np

from .activations import BIPOLAR
from .onnx_graph import Graph, Tensor
from .spelling import activation

BREVITAS, QONNX, FINN, OPENVINO = "onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general", "org.openvinotoolkit"


def bipolar_quant(g: Graph, x: str, scale: float, domain: str = QONNX, imported: bool = True) -> str:
    """BipolarQuant: where(x >= 0, 1, -1) * scale."""
    if not g.twin:
        return g.custom("BipolarQuant", x, g.const(scale), domain=domain, imported=imported)
    sign = g.node("Where", g.greater_equal(x, g.scalar(0)), g.scalar(1), g.scalar(-1))
    return g.node("Mul", sign, g.const(scale))


def quant(g: Graph, x: str, scale: float, bits: int, *, signed: int, narrow: int = 0, domain: str = QONNX, **attributes: str) -> str:
    """Quant: (clip(round(x/scale + zero_point), low, high) - zero_point) * scale, here with zero point 0, rounding half to even."""
    if not g.twin:
        operands = (g.const(scale), g.const(0.0), g.const(float(bits)))
        return g.custom("Quant", x, *operands, domain=domain, signed=signed, narrow=narrow, **attributes)
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    rounded = g.node("Round", g.node("Div", x, g.const(scale)))
    return g.node("Mul", g.clip(rounded, low, high), g.const(scale))


def multi_threshold(g: Graph, x: Tensor, thresholds: np.ndarray, out_scale: float, out_bias: float, domain: str = FINN) -> str:
    """MultiThreshold: out_scale * (number of thresholds t with x >= t) + out_bias; `thresholds` has shape [C or 1, T], rows ascending."""
    if not g.twin:
        return g.custom("MultiThreshold", x.name, g.const(thresholds), domain=domain, out_scale=out_scale, out_bias=out_bias)
    total = None
    for column in thresholds.T:
        bit = g.cast(g.greater_equal(x.name, g.const(x.per_channel(column))))
        total = bit if total is None else g.node("Add", total, bit)
    return g.node("Add", g.node("Mul", total, g.const(out_scale)), g.const(out_bias))


def fake_quantize(g: Graph, x: str, inputs: tuple[float, float], outputs: tuple[float, float]) -> str:
    """FakeQuantize(levels=2) with equal input limits: x <= limit gives the low output, x > limit the high one."""
    if not g.twin:
        return g.custom("FakeQuantize", x, *(g.const([[[[v]]]]) for v in inputs + outputs), domain=OPENVINO, levels=2)
    return g.node("Where", g.node("Greater", x, g.scalar(inputs[0])), g.scalar(outputs[1]), g.scalar(outputs[0]))


@activation("Brevitas / QONNX: BipolarQuant, domain onnx.brevitas without opset import", 1, BIPOLAR, custom=True)
def bipolar_quant_brevitas(g: Graph, x: Tensor) -> str:
    return bipolar_quant(g, x.name, 1.0, BREVITAS, imported=False)


@activation("Brevitas / QONNX: BipolarQuant, domain qonnx.custom_op.general", 0.5, (-0.5, 0.5), custom=True)
def bipolar_quant_qonnx_scaled(g: Graph, x: Tensor) -> str:
    return bipolar_quant(g, x.name, 0.5, QONNX)


@activation("Brevitas / QONNX: BipolarQuant, domain finn.custom_op.general", 1, BIPOLAR, custom=True)
def bipolar_quant_finn(g: Graph, x: Tensor) -> str:
    return bipolar_quant(g, x.name, 1.0, FINN)


@activation("Brevitas / QONNX: BipolarQuant, empty domain", 1, BIPOLAR, custom=True)
def bipolar_quant_empty_domain(g: Graph, x: Tensor) -> str:
    return bipolar_quant(g, x.name, 1.0, "")


@activation("Quant, 2 bits, empty domain, no rounding_mode", 0, (-1.0, -0.5, 0.0, 0.5), opset=11, custom=True)
def quant_2_bits_empty_domain(g: Graph, x: Tensor) -> str:
    return quant(g, x.name, 0.5, 2, signed=1, domain="")


@activation("Quant, 2 bits unsigned", 0, (0.0, 0.5, 1.0, 1.5), opset=11, custom=True)
def quant_2_bits_unsigned(g: Graph, x: Tensor) -> str:
    return quant(g, x.name, 0.5, 2, signed=0, rounding_mode="ROUND")


@activation("Quant, 2 bits narrow: ternary", 0, (-1.0, 0.0, 1.0), packs=None, opset=11, custom=True)
def quant_2_bits_narrow(g: Graph, x: Tensor) -> str:
    return quant(g, x.name, 1.0, 2, signed=1, narrow=1, domain=BREVITAS, rounding_mode="ROUND")


@activation("Quant, 1 bit unsigned: {0,1}", 0, (0.0, 1.0), packs=True, opset=11, custom=True)
def quant_1_bit_unsigned(g: Graph, x: Tensor) -> str:
    return quant(g, x.name, 1.0, 1, signed=0, rounding_mode="ROUND")


@activation("FINN-ONNX: MultiThreshold, one threshold a channel", None, BIPOLAR, custom=True)
def multi_threshold_bipolar(g: Graph, x: Tensor) -> str:
    return multi_threshold(g, x, g.rng.integers(-4, 5, (x.channels, 1)) / 8, 2.0, -1.0)


@activation("FINN-ONNX: MultiThreshold 1-wide for all channels", 1, BIPOLAR, custom=True)
def multi_threshold_one_wide(g: Graph, x: Tensor) -> str:
    return multi_threshold(g, x, np.zeros((1, 1)), 2.0, -1.0, QONNX)


@activation("FINN-ONNX: MultiThreshold, 3 thresholds", None, (0.0, 0.5, 1.0, 1.5), packs=None, custom=True)
def multi_threshold_2_bits(g: Graph, x: Tensor) -> str:
    thresholds = np.sort(g.rng.integers(-8, 9, (x.channels, 3)) / 8, axis=1)
    return multi_threshold(g, x, thresholds, 0.5, 0.0)


@activation("OpenVINO/NNCF style: FakeQuantize(levels=2)", -1, BIPOLAR, custom=True)
def fake_quantize_2_levels(g: Graph, x: Tensor) -> str:
    return fake_quantize(g, x.name, (0.0, 0.0), (-1.0, 1.0))
