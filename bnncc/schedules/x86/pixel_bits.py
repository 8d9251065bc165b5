"""Bits of the pixels of a block: from words of the input to planes of them, one for each channel, and from planes of answers to words of the output."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.schedules.builder import Builder
from bnncc.schedules.evaluate import layout_of
from bnncc.schedules.formulations.formulation import BinaryShape
from bnncc.schedules.group import Tensor
from bnncc.schedules.statements import const, reinterpret
from bnncc.schedules.x86.bit_planes import transpose_bits
from bnncc.schedules.x86.lane_blocks import InputMap, LaneBlocks

__all__ = ["PixelBits"]


class PixelBits:
    """Planes of the maps of a block.

    Parameters
    ----------
    builder : Builder
    anchor : Tensor
    shape : BinaryShape
    blocks : LaneBlocks
    lanes : int
        Of a vector.
    word_at : callable
        As of `packed._write`.
    """

    def __init__(self, builder: Builder, anchor: Tensor, shape: BinaryShape, blocks: LaneBlocks, lanes: int, word_at: Callable):
        self.builder, self.body, self.anchor, self.shape = builder, builder.body, anchor, shape
        self.blocks, self.lanes, self.width, self.word_at = blocks, lanes, lanes // 64, word_at
        self.segments = -(-blocks.map_pixels // lanes)
        # a tap reads a vector, and a word more where it is shifted, beyond what it needs
        self.plane_bytes = max(self.segments * lanes // 8, -(-(blocks.reach // 8 + lanes // 8 + 8) // 8) * 8)
        self.channels = -(-shape.inputs // 64) * 64

    def allocate(self) -> None:
        """Allocate the planes."""
        self.bits = self.body.local("uint8", len(self.blocks.maps) * self.channels * self.plane_bytes, "bits")

    def read(self, n, y0, x0, g, plane) -> None:
        """Bring the bits of the maps of a block into planes, [map][channel][pixel]."""
        body, blocks, width = self.body, self.blocks, self.width
        size, per_word = self.segments * self.lanes, self.lanes // 8
        words, loop = body.local("uint64", self.channels // 64 * size, "words"), self.builder.evaluator.loop
        for number, part in enumerate(blocks.maps):
            with body.loop(self.channels // 64, "w") as w, loop(part.rows, "row") as row, loop(part.columns, "p") as p:
                body.store(words, w * size + row * part.columns + p, self._word((n, y0 + row, self._inside(x0 + p, part)), plane, g, part.tap, w))
            # one loop: LLVM would keep the masks of a deeper one in registers that the counters need
            with body.loop(self.channels // 64 * self.segments, "s") as s:

                def load(i, s=s):
                    return tirx.Shuffle([body.load(words, s * self.lanes + q * 64 + i) for q in range(width)], list(range(width)))

                def store(i, vector, s=s, number=number):
                    channel = number * self.channels + s // self.segments * 64 + i
                    body.store(self.bits, channel * self.plane_bytes + s % self.segments * per_word, reinterpret(f"uint8x{per_word}", vector), per_word)

                transpose_bits(body, load, store, width)

    def _word(self, place: tuple, plane, g, tap: tuple, w):
        """Return 64 channels of a pixel of the input, zeros above the last."""
        shape, value = self.shape, None
        each = 64 // shape.word_bits
        for i in range(each):
            number = w * each + i
            if (self.channels // 64 - 1) * each + i < shape.words:
                word = self.word_at(place, plane, g, *tap, number)
            else:
                word = tirx.Select(number < shape.words, self.word_at(place, plane, g, *tap, tirx.min(number, shape.words - 1)), const(0, shape.word))
            word = tirx.Cast("uint64", word) if each > 1 else word
            word = tirx.shift_left(word, const(i * shape.word_bits, "uint64")) if i else word
            value = word if value is None else value | word
        return value

    def _inside(self, column, part: InputMap):
        """Return a column of a map that the input has."""
        source = self.anchor.args[0].shape[2]
        stride, start = self.shape.strides[1], part.tap[1] * self.shape.dilation[1]
        last = (source - 1 - start) // stride
        return column if self.blocks.breadth - self.blocks.width + part.columns - 1 <= last else tirx.min(column, last)

    def tap(self, c, i: int, j: int):
        """Return the input of a tap for all lanes."""
        body, octets = self.body, self.lanes // 8
        number, distance = self.blocks.places[i, j]
        at = (number * self.channels + c) * self.plane_bytes + distance // 8
        value = reinterpret(f"uint64x{self.width}", body.load(self.bits, at, octets))
        if distance % 8:
            above = reinterpret(f"uint64x{self.width}", body.load(self.bits, at + 8, octets))
            low, high = (const(shift, "uint64", self.width) for shift in (distance % 8, 64 - distance % 8))
            value = tirx.shift_right(value, low) | tirx.shift_left(above, high)
        return body.bind(value, "tap")

    def few(self, c, i: int, j: int, unit):
        """Return the input of a tap for 32 lanes, those after so many times 32 others."""
        number, distance = self.blocks.places[i, j]
        value = reinterpret("uint64", self.body.load(self.bits, (number * self.channels + c) * self.plane_bytes + distance // 8 + unit * 4, 8))
        value = tirx.shift_right(value, const(distance % 8, "uint64")) if distance % 8 else value
        return self.body.bind(tirx.Cast("uint32", value), "tap")

    def _answer(self, answers, number):
        """Return a vector of answers, of words of 32 or 64 bits."""
        each = self.width * 64 // int(str(answers.ty.dtype)[4:])
        value = self.body.load(answers, number * each, each)
        return value if each == self.width else reinterpret(f"uint64x{self.width}", value)

    def write_words(self, pack: Tensor, plane: int, answers, place: tuple, skipped: tuple, of_part: tuple | None = None) -> None:
        """Bring the answers of a plane into words of the outputs of the block at `place`, image, row and column, but for so many rows and columns that were
        written before: all words or so many from a number on, 64 bits each."""
        body, blocks, width = self.body, self.blocks, self.width
        layout = layout_of(pack).normal()
        each, first = 64 // layout.bits, plane * (-(-layout.channels // 64) * 64)
        words = body.local("uint64", self.lanes, "words")
        (n, y0, x0), (top, side) = place, skipped
        first_word, count = of_part or (0, -(-layout.channels // 64))
        with body.loop(count, "w", start=first_word) as w:
            start = first + w * 64
            transpose_bits(body, lambda i: self._answer(answers, start + i), lambda i, row: body.store(words, i * width, row, width), width)
            with body.loop(blocks.rows - top, "row", start=top) as row, body.loop(blocks.width - side, "p", start=side) as p:
                lane = row * blocks.pitch + p
                value = body.bind(body.load(words, lane % 64 * width + lane // 64), "word")
                for i in range(each):
                    word = tirx.shift_right(value, const(i * layout.bits, "uint64")) if i else value
                    word = tirx.Cast(f"uint{layout.bits}", word) if each > 1 else word
                    index = n, y0 + row, x0 + p, plane * layout.words + w * each + i
                    if (-(-layout.channels // 64) - 1) * each + i < layout.words:
                        self.builder.store_word(pack, index, word)
                    else:
                        with body.when(w * each + i < layout.words):
                            self.builder.store_word(pack, index, word)
