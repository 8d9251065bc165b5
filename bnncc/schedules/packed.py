"""Binary convolution and dense layer: geometry, planes, back-transform and border around the formulation that is chosen."""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.formulations.popcount import popcount
from bnncc.schedules.formulations.sliced import sliced
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.neon.popcount import popcount_tree
from bnncc.schedules.scalar.tree import tree
from bnncc.schedules.statements import const, spread
from bnncc.schedules.windows import packed_depthwise_conv2d
from bnncc.schedules.x86.lookup import lookup

__all__ = ["border_of", "choose_formulation", "packed_conv2d", "packed_dense"]


def choose_formulation(builder: Builder, shape: BinaryShape) -> Formulation:
    """Return the best formulation that this machine and shape allow."""
    if builder.variant.is_scalar:
        return tree(shape)
    return next(found for choose in (sliced, lookup, popcount_tree, popcount) if (found := choose(shape, builder.variant)))


def _write(builder: Builder, anchor: Tensor, shape: BinaryShape, at, border) -> Kernel:
    """Write the kernel; ``at(place, group, kh, kw, word)`` is the index into a plane of the input."""
    x, w = anchor.args[:2]
    chosen = choose_formulation(builder, shape)
    c = chosen.contraction
    size = c.tap_count * c.lanes * c.group_vectors * c.groups
    weights = builder.replace(w, size, c.weight_dtype, chosen.arrange)
    plane_words = x.shape[-1] // int(anchor.attrs.planes)

    def load_x(place, plane, g, kh, kw, k):
        *pixel, word = at(place, g, kh, kw, k)
        return builder.evaluator.value(x, (*pixel, plane * plane_words + word), 1)

    length = int(anchor.attrs.channels) // shape.groups * shape.taps[0] * shape.taps[1]

    def read(count, index, lanes):
        if c.tile_dtype != "int32":
            count = tirx.Cast(f"int32x{lanes}" if lanes > 1 else "int32", count)
        value = const(length, "int32", lanes) - count * const(2, "int32", lanes)
        if int(anchor.attrs.planes) == 2:  # length * planes - 2 * count, halved where both planes were summed
            value = value + spread((c.planes - 1) * length, lanes)
            # a sum of two planes is even, so that both halve it exactly; TVM makes a logical shift of the scalar one
            value = tirx.shift_right(value, spread(c.planes - 1, lanes)) if lanes > 1 else tirx.truncdiv(value, c.planes)
        return value if border is None else value + border(index, lanes)

    write_contraction(builder, anchor, c, weights, chosen.widest, load_x, read, chosen.fill, chosen.tile_bytes)
    return builder.kernel(chosen.name)


def _planes(builder: Builder, anchor: Tensor):
    """Return how many planes have to be summed: one where the input has one, or where a look at all its words finds both equal."""
    x = anchor.args[0]
    if int(anchor.attrs.planes) == 1:
        return 1
    words = x.shape[-1] // 2
    body, buffer = builder.body, builder.buffers[x]
    differ = body.local(x.dtype, 1, "differ")
    body.store(differ, 0, const(0, x.dtype))
    with body.loop(x.size // (2 * words), "pixel") as pixel, body.loop(words, "word") as word:
        p, q = (body.load(buffer, pixel * (2 * words) + plane * words + word) for plane in (0, 1))
        body.store(differ, 0, tirx.bitwise_or(body.load(differ, 0), tirx.bitwise_xor(p, q)))
    count = tirx.Select(tirx.NE(body.load(differ, 0), const(0, x.dtype)), tirx.const(2, "int32"), tirx.const(1, "int32"))
    return body.keep(count, "int32", 1, "planes")


def border_of(builder: Builder, tensors: tuple):
    """Return ``border(index, lanes)``, what a border table adds at a place, from the table and the classes of rows and columns; None without them."""
    if not tensors:
        return None
    table, rows, columns = tensors

    def border(index, lanes):
        row = builder.evaluator.value(rows, (index[1],), 1)
        column = builder.evaluator.value(columns, (index[2],), 1)
        return builder.evaluator.value(table, (row, column, index[3]), lanes)

    return border


def packed_conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_conv2d`` and its epilogue."""
    x, w = anchor.args[:2]
    attrs = anchor.attrs
    outputs, kh, kw, words = w.shape
    groups, channels = int(attrs.groups), int(attrs.channels)
    (sy, sx), (dy, dx) = (tuple(int(v) for v in pair) for pair in (attrs.strides, attrs.dilation))

    def at(place, g, kh, kw, k):
        n, y, pixel = place
        return (n, y * sy + kh * dy, pixel * sx + kw * dx, g * words + k)

    border = border_of(builder, anchor.args[2:])
    if outputs == channels == groups > 1 and int(attrs.planes) == 1:
        return packed_depthwise_conv2d(builder, anchor, border)
    pixels = anchor.shape[1] * anchor.shape[2]
    shape = BinaryShape(x.dtype, groups, outputs // groups, channels // groups, (kh, kw), pixels, _planes(builder, anchor))
    return _write(builder, anchor, shape, at, border)


def packed_dense(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_dense`` and its epilogue."""
    x, w = anchor.args
    channels, word_bits = int(anchor.attrs.channels), int(x.dtype[4:])
    # a flattened image has tail bits at every pixel: 0 in input and weights, they count for nothing
    inputs = channels if w.shape[1] == -(-channels // word_bits) else w.shape[1] * word_bits
    shape = BinaryShape(x.dtype, 1, w.shape[0], inputs, (1, 1), anchor.shape[0], _planes(builder, anchor))
    return _write(builder, anchor, shape, lambda place, g, kh, kw, k: (*place, k), None)
