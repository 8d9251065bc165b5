"""Binary convolution and dense layer: geometry, planes, back-transform and border around the formulation that is chosen."""

from __future__ import annotations

from dataclasses import replace

from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.contraction import write_contraction
from bnncc.schedules.count_limits import complemented, count_limits, use_limits, use_turned_limits
from bnncc.schedules.formulations.formulation import BinaryShape, Formulation, WholeKernel
from bnncc.schedules.formulations.limit_planes import answers_alone, bits_alone, find_answers
from bnncc.schedules.formulations.popcount import popcount
from bnncc.schedules.formulations.sliced import sliced, sliced_formulation
from bnncc.schedules.formulations.sliced_ones import sliced_by_ones
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.neon.cost import fastest_on_neon
from bnncc.schedules.neon.popcount import popcount_tree
from bnncc.schedules.scalar.choose import sliced_kernel
from bnncc.schedules.scalar.tree import tree
from bnncc.schedules.staging import StagedRows, count_planes, staged_rows
from bnncc.schedules.statements import const, simplify, spread, vector_type
from bnncc.schedules.taps import strides_of, tap_of
from bnncc.schedules.windows import packed_depthwise_conv2d
from bnncc.schedules.x86.carry_save import carry_save, carry_save_formulation
from bnncc.schedules.x86.lookup import lookup, lookup_formulation
from bnncc.schedules.x86.lookup_pixels import lookup_pixels, pixel_formulation
from bnncc.schedules.x86.sliced_pixels import sliced_pixel_kernel, sliced_pixels
from bnncc.targets import Variant

__all__ = ["border_of", "choose_formulation", "packed_conv2d", "packed_dense"]


_FORMULATIONS = {
    "sliced": sliced_formulation,
    "sliced by pixels": sliced_pixel_kernel,
    "sliced by ones": sliced_by_ones,
    "lookup": lookup_formulation,
    "lookup by pixels": pixel_formulation,
    "popcount tree": popcount_tree,
    "carry-save popcount": carry_save_formulation,
    "popcount": popcount,
}


def choose_formulation(builder: Builder, shape: BinaryShape) -> Formulation | WholeKernel:
    """Return the formulation for this shape: the best for this processor by rule, unless another was decided."""
    if builder.variant.is_scalar:
        return tree(shape, builder.choices)
    best = _best_formulation(builder.variant, shape)
    fitting = [name for name, make in _FORMULATIONS.items() if make(shape, builder.variant) is not None]
    name = builder.choices.choose("formulation", best.name.partition(",")[0], fitting)
    return _FORMULATIONS[name](shape, builder.variant, builder.choices)


def _best_formulation(variant: Variant, shape: BinaryShape) -> Formulation | WholeKernel:
    if variant.core:
        return fastest_on_neon(shape, variant)
    return next(found for choose in (sliced, sliced_pixels, lookup_pixels, lookup, carry_save, popcount) if (found := choose(shape, variant)))


def _write(builder: Builder, anchor: Tensor, shape: BinaryShape, word_at, border, stage: StagedRows | None = None) -> Kernel:
    """Write the kernel; ``word_at(place, plane, group, kh, kw, k)`` is word k of a group of the input; a last argument says how many from it on."""
    x, w = anchor.args[:2]
    length = int(anchor.attrs.channels) // shape.groups * shape.taps[0] * shape.taps[1]
    if builder.variant.is_source and (kernel := sliced_kernel(builder, anchor, shape, length, word_at, border)) is not None:
        return kernel
    limits = count_limits(builder, anchor)
    chosen = choose_formulation(builder, replace(shape, answers=answers_alone(builder, limits), bits=bits_alone(builder, anchor, limits)))
    if isinstance(chosen, WholeKernel):
        return chosen.write(builder, anchor, limits, word_at, stage)
    c = chosen.contraction
    turned = limits is not None and limits.is_turned
    answers = find_answers(builder, anchor, limits, length, c.lanes) if chosen.answering is not None else None
    if answers is not None:
        chosen = chosen.answering
    if limits is None or turned:
        weights = builder.replace(w, chosen.size, c.weight_dtype, chosen.arrange)
    else:
        complement = complemented(limits, int(anchor.attrs.channels) // shape.groups)
        weights = builder.replace(w, chosen.size, c.weight_dtype, lambda *arrays: chosen.arrange(complement(*arrays)), limits.direction)

    counts = "int16" if c.tile_dtype == "uint16" and length * int(anchor.attrs.planes) + 1 < 1 << 15 else "int32"  # of turned limits

    def read(count, index, lanes):
        if turned:
            count = count if c.tile_dtype == counts else tirx.Cast(vector_type(counts, lanes), count)
            if int(anchor.attrs.planes) == 1:
                return count
            twice = tirx.const(2, "int32") - c.planes  # where one plane was summed for both
            return tirx.shift_left(count, spread(_as_type(twice, counts), lanes))
        if limits is not None:
            return count
        # twice as many sums of 16 bits stand in a register; none of four times the length leaves them
        dtype = "int16" if lanes > 1 and c.tile_dtype == "uint16" and length < 1 << 13 else "int32"
        if c.tile_dtype != dtype:
            count = tirx.Cast(vector_type(dtype, lanes), count)
        value = const(length, dtype, lanes) - count * const(2, dtype, lanes)
        if int(anchor.attrs.planes) == 2:  # length * planes - 2 * count, halved where both planes were summed
            second = c.planes - 1
            value = value + spread(_as_type(second * length, dtype), lanes)
            # a sum of two planes is even, so that both halve it exactly; TVM makes a logical shift of the scalar one
            value = tirx.shift_right(value, spread(_as_type(second, dtype), lanes)) if lanes > 1 else tirx.truncdiv(value, c.planes)
        value = value if dtype == "int32" else tirx.Cast(f"int32x{lanes}", value)
        return value if border is None else value + border(index, lanes)

    if turned:
        use_turned_limits(builder, anchor, limits, length, counts)
    elif limits is not None and answers is None:
        use_limits(builder, anchor, limits, length, c.tile_dtype)
    if limits is not None and answers is None and c.tile_dtype == "uint16":
        builder.use_narrow_lanes(anchor)
    write_contraction(
        builder, anchor, c, weights, chosen.widest, word_at, read, chosen.fill, chosen.tile_bytes, stage=stage, pixel_lanes=chosen.pixel_lanes, answers=answers
    )
    return builder.kernel(chosen.name)


def _as_type(value, dtype: str):
    return value if dtype == "int32" else tirx.Cast(dtype, value)


def _planes(builder: Builder, anchor: Tensor, stage: StagedRows | None = None):
    """Return how many planes have to be summed: one where the input has one, or where a look at all its words, or at those staged, finds both equal."""
    if int(anchor.attrs.planes) == 1:
        return 1
    if stage is not None:
        return stage.watch_planes()
    planes = builder.body.local("int32", 1, "planes")
    count_planes(builder.body, builder.buffers[anchor.args[0]], anchor.args[0].size, anchor.args[0].shape[-1] // 2, planes)
    return builder.body.load(planes, 0)


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
    strides, dilation = strides_of(anchor)
    tap, plane_words = tap_of(anchor), x.shape[-1] // int(attrs.planes)

    def word_at(place, plane, g, kh, kw, k, count=1):
        def load(word, count=1):
            return builder.evaluator.value(x, tap(place, kh, kw, plane * plane_words + word), count)

        if int(attrs.in_groups) == groups:
            return load(g * words + k, count)
        parts = [_bits_of_group(load, PackedLayout(channels, groups, int(x.dtype[4:])), g, k + i) for i in range(count)]
        return parts[0] if count == 1 else tirx.Shuffle(parts, list(range(count)))

    border = border_of(builder, anchor.args[2:])
    if outputs == channels == groups == int(attrs.in_groups) > 1 and int(attrs.planes) == 1:
        return packed_depthwise_conv2d(builder, anchor, border)
    pixels = anchor.shape[1] * anchor.shape[2]
    stage = staged_rows(builder, anchor, kh)
    planes = _planes(builder, anchor, stage)
    inputs, rows = channels // groups, anchor.shape[1]
    shape = BinaryShape(x.dtype, groups, outputs // groups, inputs, (kh, kw), pixels, planes, strides=strides, dilation=dilation, rows=rows)
    return _write(builder, anchor, shape, word_at, border, stage)


def _bits_of_group(load, layout: PackedLayout, g, k):
    """Return word k of group g where the channels of all groups stand in a row: the group's bits, shifted down, and zeros; ``load(word)`` reads the input."""
    bits, size, dtype = layout.bits, layout.group_channels, f"uint{layout.bits}"

    def shifted(shift, word, amount):
        return shift(word, tirx.const(amount, dtype) if isinstance(amount, int) else tirx.Cast(dtype, amount))

    word, bit = (simplify(part) for part in PackedLayout(layout.channels, 1, bits).locate(g * size + k * bits))
    value = shifted(tirx.shift_right, load(word), bit)
    spans = [(group * size + first, min(bits, size - first)) for group in range(layout.groups) for first in range(0, size, bits)]
    if any(start % bits + length > bits for start, length in spans):
        last = -(-layout.channels // bits) - 1
        # two steps: a shift by all bits of a word means nothing
        above = shifted(tirx.shift_left, load(tirx.min(word + 1, last)), 1)
        value = tirx.bitwise_or(value, shifted(tirx.shift_left, above, simplify(bits - 1 - bit)))
    left = simplify(tirx.min(size - k * bits, bits))
    return tirx.bitwise_and(value, shifted(tirx.shift_right, const((1 << bits) - 1, dtype), simplify(bits - left)))


def packed_dense(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_dense`` and its epilogue."""
    x, w = anchor.args
    channels, word_bits = int(anchor.attrs.channels), int(x.dtype[4:])
    # a flattened image has tail bits at every pixel: 0 in input and weights, they count for nothing
    inputs = channels if w.shape[1] == -(-channels // word_bits) else w.shape[1] * word_bits
    shape = BinaryShape(x.dtype, 1, w.shape[0], inputs, (1, 1), anchor.shape[0], _planes(builder, anchor))
    plane_words = w.shape[1]

    def word_at(place, plane, g, kh, kw, k, count=1):
        return builder.evaluator.value(x, (*place, plane * plane_words + k), count)

    return _write(builder, anchor, shape, word_at, None)
