"""Padding in space and word-wide logic."""

from __future__ import annotations

from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.statements import const

__all__ = ["pad", "code_pad", "packed_pad", "packed_logic", "pads_space_only"]

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


def code_pad(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.pad`` of codes and what follows it."""
    code, mode = int(anchor.attrs.code), _MODES[str(anchor.attrs.mode)]
    top, left = int(anchor.attrs.padding[0]), int(anchor.attrs.padding[1])
    return _pad(builder, anchor, top, left, mode, lambda c, lanes: const(code, anchor.dtype, lanes))


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
