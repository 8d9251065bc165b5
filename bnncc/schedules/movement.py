"""Padding in space, word-wide logic and channel gathers."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.group import Tensor, linear_index
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.statements import const

__all__ = ["pad", "packed_pad", "packed_logic", "gather_channels", "pads_space_only"]

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "edge": "edge"}


def pads_space_only(anchor: Tensor) -> bool:
    """Tell whether an ``nn.pad`` is one that `pad` takes: NHWC, height and width only, a mode it knows."""
    widths = [int(v) for v in anchor.attrs.pad_width]
    return len(anchor.shape) == 4 and not any(widths[:2] + widths[6:]) and min(widths) >= 0 and str(anchor.attrs.pad_mode) in _MODES


def _source(mode: str, position, before: int, size: int):
    """Return where a padded position is read from."""
    at = position - before
    if mode == "edge":
        return tirx.max(tirx.min(at, size - 1), 0)
    # the border itself is not repeated
    mirrored = tirx.Select(at < 0, 0 - at, at)
    return tirx.Select(mirrored >= size, 2 * (size - 1) - mirrored, mirrored)


def _pad(builder: Builder, anchor: Tensor, top: int, left: int, mode: str, fill) -> Kernel:
    """Write a padded tensor; ``fill(channel, lanes)`` is what constant padding holds."""
    x = anchor.args[0]
    _, height, width, _ = x.shape
    body, evaluator = builder.body, builder.evaluator

    def at(index, lanes):
        n, y, px, c = index
        if mode != "constant":
            return evaluator.value(x, (n, _source(mode, y, top, height), _source(mode, px, left, width), c), lanes)
        result = body.local(anchor.dtype, lanes, "pad")
        body.store(result, 0, fill(c, lanes), lanes)
        row, column = y - top, px - left
        inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
        with body.when(inside), evaluator.scope():
            body.store(result, 0, evaluator.value(x, (n, row, column, c), lanes), lanes)
        return body.load(result, 0, lanes)

    evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel(f"pad, {mode}")


def pad(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``nn.pad`` in space (NHWC) and what follows it."""
    widths = [int(v) for v in anchor.attrs.pad_width]
    value = float(anchor.attrs.pad_value) if anchor.dtype.startswith("float") else int(anchor.attrs.pad_value)
    mode = _MODES[str(anchor.attrs.pad_mode)]
    return _pad(builder, anchor, widths[2], widths[4], mode, lambda c, lanes: const(value, anchor.dtype, lanes))


def packed_pad(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_pad``: constant padding writes the words of `fill`."""
    fill = anchor.args[1]
    top, left = int(anchor.attrs.padding[0]), int(anchor.attrs.padding[1])
    mode = _MODES.get(str(anchor.attrs.mode))
    if mode is None:
        raise InternalError(f"packed_pad {anchor.name}: mode {anchor.attrs.mode!r}; kernels take constant, edge and reflect")
    return _pad(builder, anchor, top, left, mode, lambda c, lanes: builder.evaluator.value(fill, (c,), lanes))


def packed_logic(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_logic``: the table as a multiplexer tree over the inputs, last input first."""
    attrs = anchor.attrs
    layout = PackedLayout(int(attrs.channels), int(attrs.groups), int(anchor.dtype[4:]))
    table = [int(v) for v in attrs.table]
    every = (1 << layout.bits) - 1
    tail = layout.group_channels % layout.bits
    last = (1 << tail) - 1 if tail else every

    def tree(rows: list[int], inputs: list, lanes: int):
        """Return the function whose table is `rows`, as words."""
        if len(set(rows)) == 1:
            return const(every if rows[0] else 0, anchor.dtype, lanes)
        half = len(rows) // 2
        low, high = rows[:half], rows[half:]
        if low == high:
            return tree(low, inputs[:-1], lanes)
        x = inputs[-1]
        if all(a != b for a, b in zip(low, high, strict=True)):
            return tirx.bitwise_xor(tree(low, inputs[:-1], lanes), x)
        a, b = tree(low, inputs[:-1], lanes), tree(high, inputs[:-1], lanes)
        return tirx.bitwise_xor(tirx.bitwise_and(tirx.bitwise_xor(a, b), x), a)

    def at(index, lanes):
        places = ((*index[:-1], index[-1] + int(plane) * layout.words) for plane in attrs.planes)
        words = tree(table, [builder.evaluator.value(x, place, lanes) for x, place in zip(anchor.args, places, strict=True)], lanes)
        if not tail or not table[0]:
            # tail bits of all inputs are 0, so the table's row 0 is what the tail gets
            return words
        position = [index[-1] + lane for lane in range(lanes)]
        masks = [
            tirx.Select(
                tirx.EQ(tirx.floormod(p, layout.group_words), layout.group_words - 1), tirx.const(last, anchor.dtype), tirx.const(every, anchor.dtype)
            )
            for p in position
        ]
        mask = tirx.Shuffle(masks, list(range(lanes))) if lanes > 1 else masks[0]
        return tirx.bitwise_and(words, mask)

    builder.evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel("logic on words")


def _runs(index: np.ndarray, starts: list[PackedLayout], out: PackedLayout) -> np.ndarray:
    """Turn the channel table into runs of consecutive bits.

    Parameters
    ----------
    index : ndarray, int32, shape (channels, 2)
        Input and channel of each output channel.
    starts : list of PackedLayout
        Layout of each input; their words stand one after the other.
    out : PackedLayout

    Returns
    -------
    ndarray, int32
        For each output word a row: how many runs, then for each run first source bit, bits and first target bit; zeros to the end.
    """
    offset = np.cumsum([0, *(layout.words for layout in starts)]) * out.bits
    rows = [[] for _ in range(out.words)]
    for channel, (source, source_channel) in enumerate(index):
        layout = starts[source]
        word, bit = layout.locate(int(source_channel))
        at = int(offset[source]) + word * layout.bits + bit
        target, target_bit = out.locate(channel)
        runs = rows[target]
        if runs and runs[-1][0] + runs[-1][1] == at and runs[-1][2] + runs[-1][1] == target_bit:
            runs[-1][1] += 1
        else:
            runs.append([at, 1, target_bit])
    table = np.zeros((out.words, 1 + 3 * out.bits), np.int32)
    for row, runs in zip(table, rows, strict=True):
        row[0] = len(runs)
        row[1 : 1 + 3 * len(runs)] = np.ravel(runs)
    return table.reshape(-1)


def gather_channels(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.gather_channels``: each output word is put together from runs of consecutive bits, which are found at compile time.

    An aligned concatenation has one run a word, a shuffle of single channels has one run a bit.
    """
    index_param, *inputs = anchor.args
    attrs = anchor.attrs
    bits = int(attrs.word_bits)
    layouts = [PackedLayout(int(c), int(g), bits) for c, g in zip(attrs.in_channels, attrs.in_groups, strict=True)]
    out = PackedLayout(int(attrs.out_channels), int(attrs.out_groups), bits)
    row = 1 + 3 * bits
    table = builder.replace(index_param, out.words * row, "int32", lambda array: _runs(array, layouts, out))
    body, evaluator = builder.body, builder.evaluator
    total = sum(layout.words for layout in layouts)
    (stored,) = (builder.stored(node) for node in builder.group.outputs)
    if builder.group.outputs != (anchor,):
        raise InternalError(f"gather_channels {anchor.name}: no operator may follow it in its group")

    def word(expr):
        return tirx.Cast(anchor.dtype, expr)

    with builder.lead_loops(anchor.shape[:-1]) as lead:
        # one word more, so that a run may look one word ahead
        pixel = body.local(anchor.dtype, total + 1, "pixel")
        body.store(pixel, total, const(0, anchor.dtype))
        at = 0
        for x, layout in zip(inputs, layouts, strict=True):
            with evaluator.loop(layout.words, "w") as w:
                body.store(pixel, at + w, evaluator.value(x, (*lead, w), 1))
            at += layout.words
        with evaluator.loop(out.words, "o") as o:
            result = body.local(anchor.dtype, 1, "word")
            body.store(result, 0, const(0, anchor.dtype))
            with evaluator.loop(body.load(table, o * row), "r") as r:
                first, count, target = (body.load(table, o * row + 1 + r * 3 + part) for part in range(3))
                shift = word(tirx.bitwise_and(first, bits - 1))
                low = tirx.shift_right(body.load(pixel, tirx.truncdiv(first, bits)), shift)
                # shifted in two steps, as a shift by the whole width is undefined
                high = tirx.shift_left(
                    tirx.shift_left(body.load(pixel, tirx.truncdiv(first, bits) + 1), const(1, anchor.dtype)), const(bits - 1, anchor.dtype) - shift
                )
                mask = tirx.shift_right(const((1 << bits) - 1, anchor.dtype), word(bits - count))
                run = tirx.shift_left(tirx.bitwise_and(tirx.bitwise_or(low, high), mask), word(target))
                body.store(result, 0, tirx.bitwise_or(body.load(result, 0), run))
            body.store(stored, linear_index(anchor.shape, (*lead, o)), body.load(result, 0))
    return builder.kernel(f"channel gather, {anchor.dtype} words")
