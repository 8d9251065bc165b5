"""Convolutions, pools and padding; NCHW, a one-dimensional signal as an image of height 1."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax import op as R

from bnncc.frontend.conversion import Conversion, constant_of, converts
from bnncc.frontend.transposed import sub_pixel_convolution
from bnncc.frontend.windows import Window, window_of


def _image(c: Conversion, x: relax.Expr) -> relax.Expr:
    """Return [N, C, L] as [N, C, 1, L]."""
    shape = c.shape(x)
    if len(shape) == 4:
        return x
    shape = (*shape[:2], 1, *shape[2:])
    if isinstance(x, GenericConst):
        return constant_of(x.value.numpy().reshape(shape))
    return c.emit(R.reshape(x, shape))


def _signal(c: Conversion, y: relax.Expr, rank: int) -> relax.Expr:
    """Return [N, C, 1, L] as [N, C, L] where the node works on those."""
    if rank == 4:
        return y
    y = c.emit(y)
    n, channels, _, length = c.shape(y)
    return R.reshape(y, (n, channels, length))


def _add_bias(c: Conversion, y: relax.Expr) -> relax.Expr:
    if c.get(2) is None:
        return y
    values = c.array(2)
    bias = constant_of(values.reshape(1, -1, 1, 1)) if values is not None else c.emit(R.reshape(c[2], (1, -1, 1, 1)))
    return R.add(c.emit(y), bias)


@converts("Conv")
def convert_conv(c: Conversion) -> relax.Expr:
    """conv2d with explicit padding, then the bias."""
    rank, weight_shape = len(c.shape(c[0])), c.shape(c[1])
    window = window_of(c, weight_shape[2:], c.shape(c[0])[2:])
    groups = c.attributes.get("group", 1)
    if c.shape(c[0])[1] != weight_shape[1] * groups or weight_shape[0] % groups:
        raise c.misshapen(
            f"its input has {c.shape(c[0])[1]} channels, its weight the shape {list(weight_shape)} with {groups} groups; these do not fit. "
            "Export the model again."
        )
    y = R.nn.conv2d(_image(c, c[0]), _image(c, c[1]), strides=window.strides, padding=window.pads, dilation=window.dilations, groups=groups)
    return _signal(c, _add_bias(c, y), rank)


@converts("ConvTranspose")
def convert_conv_transpose(c: Conversion) -> relax.Expr:
    """Sub-pixel convolutions, or conv2d_transpose, then the bias; output_shape and auto_pad become explicit padding."""
    size, weight_shape = c.shape(c[0])[2:], c.shape(c[1])
    spatial = len(size)
    if spatial not in (1, 2):
        raise c.unsupported(f"it has {spatial} spatial axes; 1 and 2 are supported.")
    strides = list(c.attributes.get("strides") or [1] * spatial)
    dilations = list(c.attributes.get("dilations") or [1] * spatial)
    extra = list(c.attributes.get("output_padding") or [0] * spatial)
    pads = list(c.attributes.get("pads") or [0] * (2 * spatial))
    auto, wanted = c.attributes.get("auto_pad", "NOTSET") or "NOTSET", c.attributes.get("output_shape")
    if auto.startswith("SAME") and not wanted:
        wanted = [n * s for n, s in zip(size, strides)]
    if auto == "VALID":
        pads = [0] * (2 * spatial)
    if wanted:
        for i, want in enumerate(list(wanted)[-spatial:]):
            total = strides[i] * (size[i] - 1) + extra[i] + (weight_shape[2 + i] - 1) * dilations[i] + 1 - want
            if total < 0:
                extra[i], total = extra[i] - total, 0
            less, more = total // 2, total - total // 2
            pads[i], pads[i + spatial] = (less, more) if auto == "SAME_UPPER" else (more, less)
    if spatial == 1:
        strides, dilations, extra, pads = [1, *strides], [1, *dilations], [0, *extra], [0, pads[0], 0, pads[1]]
    weight = c.array(1)
    if weight is not None and c.attributes.get("group", 1) == 1 and set(dilations) <= {1}:
        image = weight.reshape(*weight_shape[:2], -1, weight_shape[-1])
        y = sub_pixel_convolution(c, _image(c, c[0]), image, strides, pads, extra)
        if y is not None:
            return _signal(c, _add_bias(c, y), spatial + 2)
    y = R.nn.conv2d_transpose(
        _image(c, c[0]),
        _image(c, c[1]),
        strides=strides,
        padding=pads,
        output_padding=extra,
        dilation=dilations,
        groups=c.attributes.get("group", 1),
    )
    return _signal(c, _add_bias(c, y), spatial + 2)


def _padded(window: Window, extra: tuple[int, int]) -> tuple[int, int, int, int]:
    return window.pads[0], window.pads[1], window.pads[2] + extra[0], window.pads[3] + extra[1]


@converts("MaxPool")
def convert_max_pool(c: Conversion) -> relax.Expr:
    """max_pool2d; padding never wins."""
    if len(c.node.output) > 1 and c.node.output[1]:
        raise c.unsupported("its second output, the indices, is not supported. Export the model without it.")
    rank = len(c.shape(c[0]))
    window = window_of(c, tuple(c.attributes["kernel_shape"]), c.shape(c[0])[2:])
    x = _image(c, c[0])
    pads = _padded(window, window.extra(c.shape(x)[2:], bool(c.attributes.get("ceil_mode", 0))))
    y = R.nn.max_pool2d(x, pool_size=window.kernel, strides=window.strides, padding=pads, dilation=window.dilations)
    return _signal(c, y, rank)


@converts("AveragePool")
def convert_average_pool(c: Conversion) -> relax.Expr:
    """avg_pool2d; rows that only ceil_mode adds never count in the divisor."""
    rank = len(c.shape(c[0]))
    window = window_of(c, tuple(c.attributes["kernel_shape"]), c.shape(c[0])[2:])
    x = _image(c, c[0])
    extra = window.extra(c.shape(x)[2:], bool(c.attributes.get("ceil_mode", 0)))
    pads, count_padding = _padded(window, extra), bool(c.attributes.get("count_include_pad", 0)) and any(window.pads)
    if count_padding and any(extra):
        top, left, bottom, right = window.pads
        x = c.emit(R.nn.pad(x, [0, 0, 0, 0, top, bottom, left, right], "constant", 0.0))
        pads, count_padding = (0, 0, *extra), False
    y = R.nn.avg_pool2d(
        x, pool_size=window.kernel, strides=window.strides, padding=pads, dilation=window.dilations, count_include_pad=count_padding
    )
    return _signal(c, y, rank)


@converts("Pad")
def convert_pad(c: Conversion) -> relax.Expr:
    """Padding with a constant, the edge or a mirror image; negative widths cut off."""
    shape = c.shape(c[0])
    rank = len(shape)
    pads = c.ints(1, "pads", "list of widths")
    axes = list(range(rank))
    if c.get(3) is not None:
        axes = [int(a) % rank for a in c.constant(3, "list of axes").reshape(-1)]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    x = c[0]
    if min(before + after) < 0:
        begin, end = [max(-b, 0) for b in before], [d - max(-a, 0) for d, a in zip(shape, after)]
        x = c.emit(R.strided_slice(x, list(range(rank)), begin, end))
        before, after = [max(b, 0) for b in before], [max(a, 0) for a in after]
    widths = [w for pair in zip(before, after) for w in pair]
    mode = c.attributes.get("mode", "constant")
    if mode == "constant":
        value = c.attributes.get("value", 0.0)
        if c.get(2) is not None:
            value = c.constant(2, "fill value").item()
        return R.nn.pad(x, widths, "constant", float(value))
    if mode not in ("edge", "reflect", "wrap"):
        raise c.unsupported(f"its mode is {mode!r}; constant, edge, reflect and wrap are supported.")
    limit = {"edge": None, "reflect": -1, "wrap": 0}[mode]
    if limit is not None and any(w > d + limit for w, d in zip(np.maximum(before, after), c.shape(x))):
        raise c.unsupported(
            f"mode {mode!r} with widths {before} and {after} repeats the input of shape {list(shape)} more than once, which is not "
            "supported."
        )
    return R.nn.pad(x, widths, {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}[mode])
