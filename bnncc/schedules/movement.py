"""Padding in space and word-wide logic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.builder import Builder
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.group import Tensor
from bnncc.schedules.kernel import Kernel
from bnncc.schedules.statements import const, simplify

__all__ = ["Padding", "pad", "packed_logic", "padding_of", "pads_space_only"]

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "edge": "edge"}


def pads_space_only(anchor: Tensor) -> bool:
    """Tell whether an ``nn.pad`` is one that `pad` takes: NHWC, height and width only, a mode it knows."""
    widths = [int(v) for v in anchor.attrs.pad_width]
    return len(anchor.shape) == 4 and not any(widths[:2] + widths[6:]) and min(widths) >= 0 and str(anchor.attrs.pad_mode) in _MODES


@dataclass(frozen=True)
class Padding:
    """How an operator pads height and width: rows above, columns on the left, ``constant``, ``edge`` or ``reflect``, and ``fill(channel, lanes)`` of a
    constant."""

    top: int
    left: int
    mode: str
    fill: Callable

    def source(self, position, before: int, size: int):
        """Return where a padded position of an axis is read from, `before` of which were put in front of `size`."""
        at = position - before
        if self.mode == "edge":
            return tirx.max(tirx.min(at, size - 1), 0)
        # the border itself is not repeated
        mirrored = tirx.Select(at < 0, 0 - at, at)
        return tirx.Select(mirrored >= size, 2 * (size - 1) - mirrored, mirrored)


def padding_of(builder: Builder, anchor: Tensor) -> Padding:
    """Return how ``nn.pad`` in space (NHWC), ``bnn.pad`` of codes or ``bnn.packed_pad`` pads.

    Raises
    ------
    InternalError
        A mode of ``bnn.packed_pad`` that kernels do not take.
    """
    attrs, dtype = anchor.attrs, anchor.dtype
    if anchor.op == "relax.nn.pad":
        widths = [int(v) for v in attrs.pad_width]
        value = float(attrs.pad_value) if dtype.startswith("float") else int(attrs.pad_value)
        return Padding(widths[2], widths[4], _MODES[str(attrs.pad_mode)], lambda c, lanes: const(value, dtype, lanes))
    top, left, mode = int(attrs.padding[0]), int(attrs.padding[1]), _MODES.get(str(attrs.mode))
    if mode is None:
        raise InternalError(f"{anchor.op} {anchor.name}: mode {attrs.mode!r}; kernels take constant, edge and reflect")
    if anchor.op == "relax.bnn.packed_pad":
        return Padding(top, left, mode, lambda c, lanes: builder.evaluator.value(anchor.args[1], (c,), lanes))
    return Padding(top, left, mode, lambda c, lanes: const(int(attrs.code), dtype, lanes))


def pad(builder: Builder, anchor: Tensor) -> Kernel:
    """Build a padded tensor and what follows it."""
    x, how = anchor.args[0], padding_of(builder, anchor)
    _, height, width, _ = x.shape
    body, evaluator = builder.body, builder.evaluator

    def at(index, lanes):
        n, y, px, c = index
        if how.mode != "constant":
            return evaluator.value(x, (n, how.source(y, how.top, height), how.source(px, how.left, width), c), lanes)
        result = body.local(anchor.dtype, lanes, "pad")
        body.store(result, 0, how.fill(c, lanes), lanes)
        row, column = y - how.top, px - how.left
        inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
        with body.when(inside), evaluator.scope():
            body.store(result, 0, evaluator.value(x, (n, row, column, c), lanes), lanes)
        return body.load(result, 0, lanes)

    evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel(f"pad, {how.mode}")


def packed_logic(builder: Builder, anchor: Tensor) -> Kernel:
    """Build ``bnn.packed_logic``: each plane's table as a multiplexer tree over the inputs, last input first."""
    attrs = anchor.attrs
    layout = PackedLayout(int(attrs.channels), int(attrs.groups), int(anchor.dtype[4:]))
    rows = 1 << len(anchor.args)
    tables = [[int(v) for v in attrs.table[first : first + rows]] for first in range(0, len(attrs.table), rows)]
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

    def plane_at(table, index, lanes):
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

    def at(index, lanes):
        if len(tables) == 1:
            return plane_at(tables[0], index, lanes)
        # no vector reaches into the next plane (Outputs); which plane it is in is known but for very many channels
        plane, word = (simplify(part) for part in (index[-1] // layout.words, index[-1] % layout.words))
        values = {i: plane_at(table, (*index[:-1], word), lanes) for i, table in enumerate(tables) if not isinstance(plane, int) or i == plane}
        found = values.popitem()[1]
        for i, value in reversed(values.items()):
            found = tirx.Select(tirx.EQ(plane, i), value, found)
        return found

    builder.evaluator.define(anchor, at)
    builder.write_everywhere()
    return builder.kernel("logic on words")
