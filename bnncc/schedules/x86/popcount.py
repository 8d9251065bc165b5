"""Binary convolution and dense layer by xor and popcount, lanes = output channels.

Words of the activations are spread over the lanes, words of the weights stream in lane order. Words of 64 bits give 64-bit lanes, narrower
words 32-bit lanes: LLVM makes ``vpopcntq`` of the vector popcount on AVX-512, and a ``vpshufb`` table on AVX2 and SSSE3.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.register_tile import Contraction, arrange_weights
from bnncc.schedules.statements import const, spread
from bnncc.schedules.windows import packed_depthwise_conv2d

__all__ = ["packed_conv2d", "packed_dense"]


def _contraction(builder: Builder, word: str, groups: int, outputs: int, taps: tuple[int, int], depth: int, vectors: int, planes=1) -> Contraction:
    lane = "uint64" if word == "uint64" else "uint32"
    lanes = builder.variant.lanes(int(lane[4:]))
    tile = f"int32x{lanes}" if lanes > 1 else "int32"
    return Contraction(
        groups=groups,
        group_outputs=outputs // groups,
        taps=taps,
        depth=depth,
        lanes=lanes,
        acc_dtype=lane,
        weight_dtype=lane,
        tile_dtype="int32",
        vectors=vectors,
        step=lambda acc, x, w: acc + tirx.popcount(tirx.bitwise_xor(x, w)),
        finish=lambda acc: tirx.Cast(tile, acc),
        planes=planes,
    )


def _tile(builder: Builder) -> tuple[int, int]:
    """Return pixels and vectors of the register tile."""
    return (7, 4) if builder.variant.vector_registers >= 32 else (4, 2)


def _write(builder: Builder, anchor: Tensor, c: Contraction, word, at, border) -> Kernel:
    x, w = anchor.args[:2]
    widest, _ = _tile(builder)
    taps = c.tap_count * c.lanes * c.group_vectors * c.groups
    weights = builder.replace(w, taps, c.weight_dtype, lambda array: arrange_weights(c, array))

    plane_words = x.shape[-1] // int(anchor.attrs.planes)

    def load_x(lead, pixel, plane, g, kh, kw, k):
        *place, word_index = at(lead, pixel, g, kh, kw, k)
        value = builder.evaluator.value(x, (*place, plane * plane_words + word_index), 1)
        return value if word == c.acc_dtype else tirx.Cast(c.acc_dtype, value)

    length = int(anchor.attrs.channels) // c.groups * c.taps[0] * c.taps[1]

    def read(count, index, lanes):
        value = const(length, "int32", lanes) - count * const(2, "int32", lanes)
        if int(anchor.attrs.planes) == 2:  # length * planes - 2 * count, halved where both planes were summed
            value = value + spread((c.planes - 1) * length, lanes)
            value = tirx.shift_right(value, spread(c.planes - 1, lanes))
        return value if border is None else value + border(index, lanes)

    write_contraction(builder, anchor, c, weights, widest, load_x, read)
    return builder.kernel(f"popcount, {word} words, tile {widest} pixels x {c.vectors} vectors of {c.lanes} channels")


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


def packed_conv2d(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_conv2d`` and its epilogue."""
    x, w = anchor.args[:2]
    attrs = anchor.attrs
    outputs, kh, kw, words = w.shape
    c = _contraction(builder, x.dtype, int(attrs.groups), outputs, (kh, kw), words, _tile(builder)[1], _planes(builder, anchor))
    (sy, sx), (dy, dx) = (tuple(int(v) for v in pair) for pair in (attrs.strides, attrs.dilation))

    def at(lead, pixel, g, kh, kw, k):
        n, y = lead
        return (n, y * sy + kh * dy, pixel * sx + kw * dx, g * words + k)

    border = None
    if len(anchor.args) == 5:
        table, rows, columns = anchor.args[2:]

        def border(index, lanes):
            row = builder.evaluator.value(rows, (index[1],), 1)
            column = builder.evaluator.value(columns, (index[2],), 1)
            offset = linear_index(table.shape, (row, column, index[3]))
            return builder.body.load(builder.buffers[table], offset, lanes)

    if c.group_outputs == 1 and words == 1 and int(attrs.planes) == 1 and int(attrs.channels) == c.groups and c.groups > 1:
        return packed_depthwise_conv2d(builder, anchor, border)
    return _write(builder, anchor, c, x.dtype, at, border)


def packed_dense(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_dense`` and its epilogue."""
    x, w = anchor.args
    outputs, words = w.shape
    c = _contraction(builder, x.dtype, 1, outputs, (1, 1), words, _tile(builder)[1], _planes(builder, anchor))
    return _write(builder, anchor, c, x.dtype, lambda lead, pixel, g, kh, kw, k: (pixel, k), None)
