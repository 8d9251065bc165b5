"""MultiThreshold, XnorPopcountMatMul and their companions (FINN and QONNX) in standard operators."""

from __future__ import annotations

import numpy as np
import onnx

from bnncc.frontend.rewriter import Rewriter, rewrites

_LAYOUT_BY_RANK = {2: "NC", 3: "NWC", 4: "NCHW"}  # what qonnx assumes where data_layout is empty


@rewrites("MultiThreshold", inputs=2)
def rewrite_multi_threshold(r: Rewriter) -> None:
    """``out_scale * (number of thresholds t with x >= t) + out_bias``, thresholds [C or 1, n] by channel.

    Written as ``ReduceSum(Cast(x[..., None] >= T))`` with T of shape [1, C, 1, .., n]; for n = 1 without the extra axis.
    """
    x, thresholds = r.node.input[0], r.constant(1, "threshold matrix")
    shape = r.shape(0)
    axis = _channel_axis(r, len(shape))
    channels = shape[axis] if axis < len(shape) else 1
    if thresholds.ndim != 2 or not thresholds.size or thresholds.shape[0] not in (1, channels):
        raise r.unsupported(
            f"its thresholds have shape {list(thresholds.shape)}, its input {list(shape)} with the channels on axis {axis}; "
            "[channels, n] and [1, n] are supported. Check data_layout."
        )
    count = thresholds.shape[1]
    by_channel = [1] * len(shape)
    by_channel[axis] = thresholds.shape[0]
    if count == 1:
        bound = r.weight(thresholds.astype(np.float32).reshape(by_channel), "thresholds")
        x = r.emit("Cast", r.at_least(x, bound), to=onnx.TensorProto.FLOAT)
    else:
        bound = r.weight(thresholds.astype(np.float32).reshape([*by_channel, count]), "thresholds")
        reached = r.emit("Cast", r.at_least(r.unsqueeze(x, len(shape)), bound), to=onnx.TensorProto.FLOAT)
        x = r.sum_last(reached, len(shape))
    scale, bias = r.attributes.get("out_scale", 1.0), r.attributes.get("out_bias", 0.0)
    x = x if scale == 1.0 else r.emit("Mul", x, r.weight(float(scale), "out_scale"))
    r.finish(x if bias == 0.0 else r.emit("Add", x, r.weight(float(bias), "out_bias")))


def _channel_axis(r: Rewriter, rank: int) -> int:
    layout = r.attributes.get("data_layout", "") or _LAYOUT_BY_RANK.get(rank, "")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= rank:
        raise r.unsupported(f"its data_layout is {layout!r}, its input has rank {rank}. They must agree.")
    return axis


@rewrites("XnorPopcountMatMul", inputs=2)
def rewrite_xnor_popcount_matmul(r: Rewriter) -> None:
    """Number of equal bits of two {0, 1} operands: ``(matmul(2a - 1, 2b - 1) + K) / 2``."""
    depth = r.shape(1)[0]
    depth = r.shape(0)[-1] if depth is None else depth
    if depth is None:
        raise r.unsupported("the length of its dot products cannot be told. Run shape inference on the model before.")
    two, one = r.weight(2.0, "two"), r.weight(1.0, "one")
    a, b = (r.emit("Sub", r.emit("Mul", operand, two), one) for operand in r.node.input[:2])
    total = r.emit("Add", r.emit("MatMul", a, b), r.weight(float(depth), "depth"))
    r.finish(r.emit("Mul", total, r.weight(0.5, "half")))


@rewrites("QuantAvgPool2d", inputs=1)
def rewrite_quant_avg_pool(r: Rewriter) -> None:
    """Window sum shifted right until it fits into ``obits`` bits."""
    kernel, stride = r.attributes.get("kernel", 1), r.attributes.get("stride", 1)
    if r.attributes.get("data_layout", "NCHW") != "NCHW":
        raise r.unsupported(f"its data_layout is {r.attributes['data_layout']!r}; NCHW is supported.")
    largest = (2 ** r.attributes.get("ibits", 8) - 1) * kernel * kernel
    shift = max(largest.bit_length() - r.attributes.get("obits", 8), 0)
    mean = r.emit("AveragePool", r.node.input[0], kernel_shape=[kernel] * 2, strides=[stride] * 2)
    total = r.round_half_even(r.emit("Mul", mean, r.weight(float(kernel * kernel), "area")))
    r.finish(total if not shift else r.emit("Floor", r.emit("Mul", total, r.weight(2.0**-shift, "shift"))))


@rewrites("DebugMarker", inputs=1)
def rewrite_debug_marker(r: Rewriter) -> None:
    """The value as it is."""
    r.emit("Identity", r.node.input[0], last=True)
