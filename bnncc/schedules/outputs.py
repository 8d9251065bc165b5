"""Stores what a group returns: tensors vector by vector, packed tensors word by word."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from tvm import tirx

from bnncc.errors import InternalError
from bnncc.schedules.channels import Run, plan_channels
from bnncc.schedules.evaluate import Evaluator, layout_of
from bnncc.schedules.group import Group, Tensor, linear_index
from bnncc.schedules.statements import const, reinterpret, vector_type

__all__ = ["Outputs"]


def _is_pack(node: Tensor) -> bool:
    return node.op == "relax.bnn.pack"


class Outputs:
    """The outputs of a group, all of one shape before packing.

    Parameters
    ----------
    group : Group
    buffers : dict
        Buffer of each output.
    lanes : int
        Elements that are evaluated at once.
    store : callable
        ``store(node, index, word)`` stores a word of a packed output.
    join : callable, optional
        ``join(vectors, bits)``: the word of `bits` bits of pieces (first bit, lanes, condition) where the processor has a better way than one vector after
        the other, or None where not for these.
    wide : bool
        Whether these elements are several registers.

    Raises
    ------
    InternalError
        The outputs differ in shape.
    """

    def __init__(self, group: Group, buffers: dict, lanes: int, store: Callable, join: Callable | None = None, wide: bool = False):
        self._wide = wide
        self._group = group
        self._buffers = buffers
        self._store = store
        self._join = join
        shapes = {(node.args[0] if _is_pack(node) else node).shape for node in group.outputs}
        if len(shapes) != 1:
            raise InternalError(f"the outputs of a group must have one shape (before packing); found {sorted(shapes)}")
        (self.shape,) = shapes
        self._layouts = layouts = [layout_of(node) for node in group.nodes if node.op in ("relax.bnn.pack", "relax.bnn.unpack")]
        self._lanes = lanes
        self._repeats = [node for node in group.nodes if node.op == "relax.bnn.repeat_channels"]
        self._ends = ends = [node.args[0].shape[-1] * int(node.attrs.each) for node in self._repeats if int(node.attrs.times) > 1]
        logic = [(node, len(node.attrs.table) >> len(node.args)) for node in group.nodes if node.op == "relax.bnn.packed_logic"]
        ends += [node.shape[-1] // planes for node, planes in logic if planes > 1]
        self.runs = plan_channels(self.shape[-1] if self.shape else 1, layouts, lanes, ends)

    def splits(self, parts: int) -> bool:
        """Tell whether the channels fall into `parts` equal parts, where words are packed or unpacked parts of whole blocks."""
        if self._repeats or self.shape[-1] % parts:
            return False
        return self._has_equal_blocks(parts) or not (self._layouts or self._ends)

    def _has_equal_blocks(self, parts: int) -> bool:
        return len(self.runs) == 1 and self.runs[0].count % parts == 0

    def write(self, evaluator: Evaluator, lead: tuple, part=0, parts: int = 1) -> None:
        """Write all channels at one place (the index without the channel axis), or one of several `parts` of them."""
        with evaluator.scope(), ExitStack() as kept:
            for node in self._repeats:
                self._keep(evaluator, node.args[0], lead, kept)
            if parts > 1 and not self._has_equal_blocks(parts):
                channels = self.shape[-1] // parts
                for run in plan_channels(channels, [], self._lanes):
                    with evaluator.loop(run.count, "block") as block:
                        self._write_run(evaluator, lead, run, block, part * channels)
                return
            for run in self.runs:
                count = run.count // parts
                with evaluator.loop(count, "block") as block:
                    self._write_run(evaluator, lead, run, part * count + block if parts > 1 else block)

    def write_row(self, evaluator: Evaluator, pixels: int, enter: Callable, part=0, parts: int = 1) -> None:
        """Write what `write` does at neighbouring places; ``enter(pixel)`` says what is known at one and returns its index without the channel axis.

        Where a block of channels is many registers, all of its pixels come before the next block: constants of a channel stay in registers, which those of
        all channels, were they unrolled, do not.
        """
        if self._wide and parts == 1 and not self._repeats:
            # words are collected over all vectors of a run
            runs = self.runs if self._layouts else [replace(run, cuts=(cut,)) for run in self.runs for cut in run.cuts]
            for run in runs:
                with evaluator.loop(run.count, "block") as block, evaluator.loop(pixels, "p") as p:
                    self._write_run(evaluator, enter(p), run, block)
            return
        with evaluator.loop(pixels, "p") as p:
            self.write(evaluator, enter(p), part, parts)

    def _keep(self, evaluator: Evaluator, x: Tensor, lead: tuple, kept: ExitStack) -> None:
        """Compute the channels of a place that are repeated once, into a local buffer, unless they lie in memory already."""
        if x in evaluator.buffers:
            return
        body, channels = evaluator.body, x.shape[-1]
        buffer = body.local(evaluator.element_type(x), channels, "channels")
        for run in plan_channels(channels, [], self._lanes):
            with evaluator.loop(run.count, "block") as block:
                for offset, lanes in run.cuts:
                    at = block * run.size + (run.start + offset)
                    body.store(buffer, at, evaluator.value(x, (*lead, at), lanes), lanes)
        kept.enter_context(evaluator.replaced(x, lambda index, lanes: body.load(buffer, index[-1], lanes)))

    def _write_run(self, evaluator: Evaluator, lead: tuple, run: Run, block, base=0) -> None:
        words: dict[tuple[Tensor, int], list] = {}
        for offset, lanes in run.cuts:
            with evaluator.scope():
                index = (*lead, base + block * run.size + (run.start + offset)) if self.shape else ()
                for node in self._group.outputs:
                    if _is_pack(node):
                        for plane, negative in enumerate(self._planes(evaluator, node, index, lanes)):
                            self._collect(evaluator, node, plane, negative, lead, lanes, run, block, offset, words)
                    else:
                        value = evaluator.value(node, index, lanes)
                        evaluator.body.store(self._buffers[node], linear_index(node.shape, index), value, lanes)

    @staticmethod
    def _planes(evaluator, node, index, lanes) -> list:
        """Return, plane by plane, where a bit is 1: the thresholds not reached, without the detour over codes where the codes are thresholds'."""
        codes, planes = node.args[0], int(node.attrs.planes)
        if not int(node.attrs.step) and codes.op == "relax.bnn.quantize" and codes.args[1].shape[0] == planes:
            return [tirx.Not(reached) for reached in evaluator.thresholds_reached(codes, index, lanes)]
        value = evaluator.value(codes, index, lanes)
        if int(node.attrs.step):
            # in 8 bits whatever wraps around leaves the digits as they are
            shift, step = const(-int(node.attrs.lo) % 256, "uint8", lanes), int(node.attrs.step)
            value = evaluator.body.keep(tirx.Cast(vector_type("uint8", lanes), value) + shift, "uint8", lanes, "digits")
            digits = (tirx.bitwise_and(value, const(step << plane, "uint8", lanes)) for plane in range(planes))
            return [tirx.EQ(digit, const(0, "uint8", lanes)) for digit in digits]
        return [tirx.LT(value, const(plane, "int8", lanes)) for plane in range(planes)]

    def _word(self, vectors: list, bits: int):
        """Return the word of pieces (bit, lanes, condition)."""
        joined = self._join(vectors, bits) if self._join else None
        return _join_vectors(vectors, bits) if joined is None else joined

    def _collect(self, evaluator, node, plane, negative, lead, lanes, run, block, offset, words) -> None:
        """Add the bits of one vector to the word they belong to, and store the word after its last vector."""
        layout = layout_of(node).normal()
        key = (node, plane)
        first, bit = layout.locate(run.start + offset)
        words.setdefault(key, []).append((bit, lanes, negative))
        end = run.start + offset + lanes
        if end < layout.channels and end < run.start + run.size and layout.locate(end)[0] == first:
            return
        bits = self._word(words.pop(key), layout.bits)
        step = layout.locate(run.start + run.size)[0] - layout.locate(run.start)[0] if run.count > 1 else 0
        self._store(node, (*lead, block * step + (plane * layout.words + first)), bits)


def _join_vectors(vectors: list, bits: int):
    """Return the word of pieces (bit, lanes, condition) of one vector each."""
    word = None
    for bit, lanes, condition in vectors:
        piece = _lane_bits(condition, lanes, bits)
        if bit:
            piece = tirx.shift_left(piece, tirx.const(bit, f"uint{bits}"))
        word = piece if word is None else tirx.bitwise_or(word, piece)
    return word


def _lane_bits(condition, lanes: int, bits: int):
    """Return an integer of `bits` bits that has bit i where lane i is true."""
    dtype = f"uint{bits}"
    if lanes == 1:
        return tirx.Cast(dtype, condition)
    if lanes < 8:
        condition = tirx.Shuffle([condition, tirx.Broadcast(tirx.const(False, "bool"), 8 - lanes)], list(range(8)))
        lanes = 8
    # a vector of booleans is a vector of single bits in LLVM, and becomes one movmsk or kmov
    mask = reinterpret(f"uint{lanes}", condition)
    return mask if lanes == bits else tirx.Cast(dtype, mask)
