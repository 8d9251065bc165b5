"""The value of any tensor of a group at one place: operators are evaluated where they are needed, never stored as whole tensors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.channels import PackedLayout
from bnncc.schedules.elementwise import ELEMENTWISE, apply
from bnncc.schedules.group import Group, Tensor, linear_index
from bnncc.schedules.statements import Statements, const, simplify, spread

__all__ = ["Evaluator", "as_mask", "layout_of", "turned"]

_LONG = 64
"""Operators of a chain that are evaluated at once: of a longer one, the calls of Python, and the expression, would be nested too deep."""


def layout_of(node: Tensor) -> PackedLayout:
    """Return the word layout of a pack or unpack."""
    return PackedLayout(int(node.attrs.channels), int(node.attrs.groups), int(node.attrs.word_bits))


def as_mask(dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return how `flip` is rearranged for values of `dtype`: what turns ``x <= t`` into ``x' >= t'``.

    For float32 a factor of +1 or -1 on both sides. For int32 an exclusive or with 0 or -1 on both sides: ``~a = -a - 1`` reverses the order
    and cannot overflow.
    """
    if dtype == "float32":
        return lambda flip: np.where(flip > 0, 1, -1).astype(np.float32)
    return lambda flip: np.where(flip > 0, 0, -1).astype(dtype)


def turned(dtype: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return how thresholds, shape (n, ..., channels), are rearranged with `flip`, shape (channels,), so that `as_mask` is applied to them already."""
    mask = as_mask(dtype)
    return lambda thresholds, flip: np.multiply(thresholds, mask(flip.reshape(-1))) if dtype == "float32" else thresholds ^ mask(flip.reshape(-1))


class Evaluator:
    """Writes the statements that compute values, vector by vector.

    Parameters
    ----------
    group : Group
    body : Statements
        Where statements go.
    buffers : dict
        Buffer of each parameter, one-dimensional.
    flips : set of Tensor
        The `flip` parameters that are stored as `as_mask` says.
    turned_thresholds : set of Tensor
        The thresholds that are stored as `turned` says.
    """

    def __init__(self, group: Group, body: Statements, buffers: dict, flips: set[Tensor], turned_thresholds: set[Tensor] = frozenset()):
        self.group = group
        self.body = body
        self.buffers = buffers
        self._flips = flips
        self._turned = turned_thresholds
        self._anchors: dict[Tensor, Callable] = {}
        self._quantizers: dict[Tensor, Callable] = {}
        self._types: dict[Tensor, str] = {}
        self._known: list[dict] = [{}]
        self._length: dict[Tensor, int] = {}
        for node in group.nodes:
            self._length[node] = 1 + max((self._length.get(arg, 0) for arg in node.args if isinstance(arg, Tensor)), default=0)

    def define(self, tensor: Tensor, at: Callable) -> None:
        """Say how an anchor is evaluated: ``at(index, lanes)`` returns the expression."""
        self._anchors[tensor] = at

    def define_type(self, tensor: Tensor, dtype: str) -> None:
        """Say of which element type the values of a tensor are, where it is not its own."""
        self._types[tensor] = dtype

    def element_type(self, tensor: Tensor) -> str:
        """Return the element type that the values of a tensor are of."""
        return self._types.get(tensor, tensor.dtype)

    def define_reached(self, quantize: Tensor, at: Callable) -> None:
        """Say how a quantize finds the thresholds its input has reached: ``at(index, lanes)`` returns a list of conditions."""
        self._quantizers[quantize] = at

    @contextmanager
    def replaced(self, tensor: Tensor, at: Callable):
        """Evaluate a tensor as `at` says for a while."""
        before = self._anchors.get(tensor)
        self._anchors[tensor] = at
        with self.scope():
            yield
        if before is None:
            del self._anchors[tensor]
        else:
            self._anchors[tensor] = before

    @contextmanager
    def scope(self):
        """Forget, at the end, what was computed inside: a loop body or a branch."""
        self._known.append({})
        yield
        self._known.pop()

    @contextmanager
    def loop(self, extent, name: str, start=0, parallel: bool = False):
        """Open a loop whose values are not known outside."""
        with self.body.loop(extent, name, start, parallel) as var, self.scope():
            yield var

    def value(self, tensor: Tensor, index: tuple, lanes: int):
        """Return `lanes` consecutive elements from `index` on (the last axis counts on)."""
        if tensor.constant is not None:
            return const(tensor.constant.item(), tensor.dtype, lanes)
        if tensor in self.buffers:
            return self.body.load(self.buffers[tensor], linear_index(tensor.shape, index), lanes)
        key = (tensor, tuple(str(i) if isinstance(i, int) else i for i in index), lanes)
        for known in reversed(self._known):
            if key in known:
                return known[key]
        length = self._length.get(tensor, 0)
        if length > _LONG:
            for node in self.group.nodes:  # from the start of the chain on
                if self._ends_part(node) and self._length[node] < length and node.shape == tensor.shape:
                    self.value(node, index, lanes)
        result = self._compute(tensor, index, lanes)
        if (self.group.uses.get(tensor, 0) > 1 or self._ends_part(tensor)) and tensor.dtype != "bool":
            result = self.body.keep(result, tensor.dtype, lanes, "v")
        self._known[-1][key] = result
        return result

    def _ends_part(self, tensor: Tensor) -> bool:
        """Tell whether so many operators stand before a tensor that it is computed before those behind it."""
        return tensor.op in ELEMENTWISE and self._length.get(tensor, 0) % _LONG == 0

    def operand(self, operand: Tensor, shape: tuple[int, ...], index: tuple, lanes: int):
        """Return `operand` broadcast to `shape` at `index`."""
        missing = len(shape) - len(operand.shape)
        if missing < 0:
            if operand.size != 1:
                raise InternalError(f"{operand.name} of shape {operand.shape} does not broadcast to {shape}")
            return spread(self.value(operand, (0,) * len(operand.shape), 1), lanes)
        own = tuple(0 if size == 1 else i for size, i in zip(operand.shape, index[missing:], strict=True))
        if operand.shape and operand.shape[-1] == shape[-1]:
            return self.value(operand, own, lanes)
        return spread(self.value(operand, own, 1), lanes)

    def _compute(self, node: Tensor, index: tuple, lanes: int):
        if node in self._anchors:
            return self._anchors[node](index, lanes)
        if node.op == "relax.bnn.quantize":
            return self._quantize(node, index, lanes)
        if node.op == "relax.bnn.unpack":
            return self._unpack(node, index, lanes)
        if node.op == "relax.bnn.repeat_channels":
            return self._repeated(node, index, lanes)
        if node.op not in ELEMENTWISE:
            raise InternalError(f"{node.op} ({node.name}) cannot stand here: it is neither elementwise nor the anchor of its group")
        if node.op == "relax.nn.prelu":
            return apply(node, lanes, [self.operand(node.args[0], node.shape, index, lanes), self._slope(node, index, lanes)])
        args = [arg for arg in node.args if isinstance(arg, Tensor)]
        return apply(node, lanes, [self.operand(arg, node.shape, index, lanes) for arg in args])

    def _repeated(self, node: Tensor, index: tuple, lanes: int):
        """Return channels of what is repeated; `plan_channels` saw to it that a vector crosses no end of a repetition."""
        x, each = node.args[0], int(node.attrs.each)
        first = (
            simplify(index[-1] // each % x.shape[-1]) if isinstance(index[-1], int) else simplify(tirx.floormod(tirx.floordiv(index[-1], each), x.shape[-1]))
        )
        if each == 1:
            return self.value(x, (*index[:-1], first), lanes)
        before = simplify(index[-1] % each) if isinstance(index[-1], int) else simplify(tirx.floormod(index[-1], each))
        pattern = [(int(before) + lane) // each for lane in range(lanes)]
        if lanes == 1:
            return self.value(x, (*index[:-1], first), 1)
        count = pattern[-1] + 1
        if count & (count - 1) == 0:
            # one load, which the processor spreads by a shuffle
            return tirx.Shuffle([self.value(x, (*index[:-1], first), count)] * -(-lanes // count), pattern)
        values = [self.value(x, (*index[:-1], first + i), 1) for i in range(count)]
        return tirx.Shuffle([values[i] for i in pattern], list(range(lanes)))

    def _slope(self, node: Tensor, index: tuple, lanes: int):
        """Return what prelu multiplies negative values by: its second operand has the length of one axis."""
        slopes, axis = node.args[1], int(node.attrs.axis) % len(node.shape)
        if axis == len(node.shape) - 1 or slopes.size == 1:
            return self.operand(slopes, node.shape, index, lanes)
        return spread(self.value(slopes, (index[axis],), 1), lanes)

    def _quantize(self, node: Tensor, index: tuple, lanes: int):
        lo, step = int(node.attrs.lo), int(node.attrs.step)
        passed = self.thresholds_reached(node, index, lanes)
        if len(passed) == 1:
            return tirx.Select(passed[0], const(lo + step, "int8", lanes), const(lo, "int8", lanes))
        code = const(lo, "int8", lanes)
        for one in passed:
            code = code + tirx.Select(one, const(step, "int8", lanes), const(0, "int8", lanes))
        return code

    def thresholds_reached(self, node: Tensor, index: tuple, lanes: int) -> list:
        """Return, threshold by threshold of a quantize, where its input has reached it."""
        if node in self._quantizers:
            return self._quantizers[node](index, lanes)
        x, thresholds, flip = node.args
        values = self.operand(x, node.shape, index, lanes)
        if thresholds.shape[0] > 1:
            values = self.body.keep(values, x.dtype, lanes, "v")
        limits = (self._threshold(thresholds, i, node, index, lanes) for i in range(thresholds.shape[0]))
        return [self._reached(values, x.dtype, limit, node, index, lanes) for limit in limits]

    def _threshold(self, thresholds: Tensor, i: int, node: Tensor, index: tuple, lanes: int):
        shape = thresholds.shape[1:]
        own = tuple(0 if size == 1 else j for size, j in zip(shape, index[len(index) - len(shape) :], strict=True))
        if shape and shape[-1] == node.shape[-1]:
            return self.value(thresholds, (i, *own), lanes)
        return spread(self.value(thresholds, (i, *own), 1), lanes)

    def _reached(self, x, dtype: str, threshold, node: Tensor, index: tuple, lanes: int):
        _, thresholds, flip = node.args
        if flip.constant is not None:
            return tirx.GE(x, threshold) if flip.constant > 0 else tirx.LE(x, threshold)
        direction = self.operand(flip, node.shape, index, lanes)
        if flip not in self._flips:
            return tirx.Select(tirx.GT(direction, const(0, flip.dtype, lanes)), tirx.GE(x, threshold), tirx.LE(x, threshold))
        turn = (lambda value: value * direction) if dtype == "float32" else (lambda value: tirx.bitwise_xor(value, direction))
        return tirx.GE(turn(x), threshold if thresholds in self._turned else turn(threshold))

    def _unpack(self, node: Tensor, index: tuple, lanes: int):
        # the first plane says "below 0", the second "not above 0"
        below, *not_above = (self._bits(node, plane, index, lanes) for plane in range(int(node.attrs.planes)))
        one, zero = const(1, "int8", lanes), const(0, "int8", lanes)
        return tirx.Select(below, const(-1, "int8", lanes), tirx.Select(not_above[0], zero, one) if not_above else one)

    def _bits(self, node: Tensor, plane: int, index: tuple, lanes: int):
        """Return, lane by lane, whether the channel's bit is 1 in a plane of the words that `node` unpacks."""
        layout = layout_of(node).normal()
        word, bit = (simplify(part) for part in layout.locate(index[-1]))
        value = self.value(node.args[0], (*index[:-1], plane * layout.words + word), 1)
        wide = "uint64" if layout.bits == 64 else "uint32"
        value = tirx.Cast(wide, value) if layout.bits < 32 else value
        # the lanes of one vector lie in one word, so at most 32 bits matter after the shift
        low = tirx.Cast("uint32", tirx.shift_right(value, tirx.Cast(wide, bit) if not isinstance(bit, int) else tirx.const(bit, wide)))
        ones = tirx.Shuffle([tirx.const(1 << lane, "uint32") for lane in range(lanes)], list(range(lanes))) if lanes > 1 else tirx.const(1, "uint32")
        return tirx.NE(tirx.bitwise_and(spread(low, lanes), ones), const(0, "uint32", lanes))
