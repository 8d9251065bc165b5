"""Convolution and dense layer on bit planes: every pair of a plane of the input and one of the weights is a binary contraction.

Planes of the input are further pixels to the formulation, planes of the weights further output channels, so each formulation serves as it is and a block of
weights serves all planes of the input while it is in the cache. The epilogue joins the counts: two operations a pair for a vector of channels.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.packed import border_of, choose_formulation
from bnncc.schedules.staging import StagedRows, staged_rows
from bnncc.schedules.statements import const, vector_type
from bnncc.schedules.taps import tap_of

__all__ = ["plane_conv2d", "plane_dense"]


def _write(builder: Builder, anchor: Tensor, groups: int, inputs: int, pixels: int, at, border, stage: StagedRows | None = None) -> Kernel:
    """Write the kernel; ``at(place, group, kh, kw, word)`` is the index into a plane of the input."""
    x, w, bias = anchor.args[:3]
    input_scales, weight_scales = ([int(v) for v in scales] for scales in (anchor.attrs.input_scales, anchor.attrs.weight_scales))
    planes = len(input_scales), len(weight_scales)
    taps = w.shape[1:3] if len(w.shape) == 4 else (1, 1)
    outputs = bias.shape[0] // groups
    # without groups the planes of the weights are more channels of one group: what is made of the input once serves all of them
    split = (1, outputs * planes[1]) if groups == 1 else (groups * planes[1], outputs)
    window = {name: tuple(int(v) for v in getattr(anchor.attrs, name)) for name in ("strides", "dilation")} if len(w.shape) == 4 else {}
    shape = BinaryShape(x.dtype, split[0], split[1], inputs, taps, pixels * planes[0], 1, rows_each=planes[0], **window)
    chosen = choose_formulation(builder, shape)
    c = chosen.contraction
    size = c.tap_count * c.lanes * c.group_vectors * c.groups
    weights = builder.replace(w, size, c.weight_dtype, chosen.arrange)
    plane_words = x.shape[-1] // planes[0]

    def load_x(place, plane, g, kh, kw, k, words=1):
        *pixel, word = at(place, g % groups if groups > 1 else 0, kh, kw, k)
        return builder.evaluator.value(x, (*pixel, plane * plane_words + word), words)

    scales = [p * q for p in input_scales for q in weight_scales]

    def read(counts, index, lanes):
        total = builder.evaluator.value(bias, (index[-1],), lanes)
        for scale, count in zip(scales, counts if len(scales) > 1 else [counts], strict=True):
            if c.tile_dtype != "int32":
                count = tirx.Cast(vector_type("int32", lanes), count)
            total = total - count * const(scale, "int32", lanes)
        # the difference is even, so that both halve it exactly; TVM makes a logical shift of the scalar one
        value = tirx.shift_right(total, const(1, "int32", lanes)) if lanes > 1 else tirx.truncdiv(total, const(2, "int32"))
        return value if border is None else value + border(index, lanes)

    write_contraction(builder, anchor, c, weights, chosen.widest, load_x, read, chosen.fill, chosen.tile_bytes, planes, stage, chosen.pixel_lanes)
    return builder.kernel(f"{planes[0]} x {planes[1]} bit planes, {chosen.name}")


def plane_conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.plane_conv2d`` and its epilogue."""
    attrs, words = anchor.attrs, anchor.args[1].shape[3]
    groups = int(attrs.groups)
    tap = tap_of(anchor)

    def at(place, g, kh, kw, k):
        return tap(place, kh, kw, g * words + k)

    border = border_of(builder, anchor.args[3:])
    stage = staged_rows(builder, anchor, anchor.args[1].shape[1])
    return _write(builder, anchor, groups, int(attrs.channels) // groups, anchor.shape[1] * anchor.shape[2], at, border, stage)


def plane_dense(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.plane_dense`` and its epilogue."""
    return _write(builder, anchor, 1, int(anchor.attrs.channels), anchor.shape[0], lambda place, g, kh, kw, k: (*place, k), None)
