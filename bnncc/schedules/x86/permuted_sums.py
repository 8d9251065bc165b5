"""Real activations by signs for a few pixels, lanes = output channels: sums of four inputs under all signs in a register, permuted by the bits of weights.

A lane of 32 bits holds four signs of each of eight sums, of one output channel. ``vpermps`` picks by the lowest bits of each lane, so that a shift is all it
takes to get from one sum to the next::

    table[four inputs] = d +-a +-b +-c          8 sums, one register; with d's sign, too, 16 on AVX-512
    for a block of channels, every four inputs:
        acc += permute(table, word >> n)        and the sign flipped where d's is -1, which the other three have been turned by

Six instructions for four inputs and a vector of channels, three on AVX-512, where signs expanded to floats take sixteen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm import tirx

from bnncc.ops.pack import PackAttrs, pack_reference
from bnncc.schedules.register_tile import Contraction, arrange_weights, blocks, cleared, tile_stride
from bnncc.schedules.statements import Statements, const, reinterpret, spread
from bnncc.targets import Variant

__all__ = ["PermutedSums"]

_FOUR = 4
_WORD = 32
_TABLE_BYTES = 128 * 1024
_PERMUTE = {8: "llvm.x86.avx2.permps", 16: "llvm.x86.avx512.permvar.sf.512"}


class PermutedSums:
    """The contraction of a few pixels.

    Parameters
    ----------
    c : Contraction
        Of real numbers, as of `contract_float.float_contraction`.
    """

    def __init__(self, c: Contraction):
        self.c = replace(c, depth=-(-c.depth // _WORD), weight_dtype="uint32")
        self.inputs, self.lanes = c.depth, c.lanes
        self._turned = c.lanes == 8
        self._quads = self.c.depth * _WORD // _FOUR

    @staticmethod
    def fits(c: Contraction, variant: Variant, pixels: int) -> bool:
        """Tell whether the machine permutes and the table stays near."""
        table = pixels * c.taps[0] * c.taps[1] * -(-c.depth // _WORD) * _WORD // _FOUR * c.lanes * 4
        return "vpermps" in variant.instructions and c.groups == 1 and table <= _TABLE_BYTES

    @property
    def size(self) -> int:
        """Words of the weights."""
        return self.c.tap_count * self.c.lanes * self.c.group_vectors

    def arrange(self, signs: np.ndarray) -> np.ndarray:
        """Bring signs of shape (outputs, KH, KW, depth) into the order that `fill` reads."""
        minus = np.pad(signs < 0, [(0, 0)] * 3 + [(0, self.c.depth * _WORD - self.inputs)])
        if self._turned:
            fours = minus.reshape(-1, _FOUR)
            fours[:, :3] ^= fours[:, 3:]
        return arrange_weights(self.c, pack_reference(PackAttrs(minus.shape[-1], 1, _WORD), np.where(minus, -1, 1).astype(np.int8)))

    def fill(self, body: Statements, c: Contraction, shape, weights, tile, load_x: Callable) -> None:
        """Compute all channels of a tile of pixels, as `register_tile.fill_tile` does."""
        pixels, taps = shape.pixels, c.taps[0] * c.taps[1]
        table = body.local("float32", pixels * taps * self._quads * self.lanes, "table")
        with (
            body.loop(shape.rows, "row") as row,
            body.loop(shape.row_pixels, "p") as p,
            body.loop(c.taps[0], "kh") as kh,
            body.loop(c.taps[1], "kw") as kw,
        ):
            start = ((row * shape.row_pixels + p) * taps + kh * c.taps[1] + kw) * self._quads
            whole, tail = divmod(self.inputs, _FOUR)
            with body.loop(whole, "quad") as quad:
                self._put(body, table, start + quad, [load_x(row, p, 0, 0, kh, kw, quad * _FOUR + i) for i in range(_FOUR)])
            if tail:
                self._put(body, table, start + whole, [load_x(row, p, 0, 0, kh, kw, whole * _FOUR + i) for i in range(tail)])
        for _, first, vectors in blocks(body, c, shape):
            base = first * c.tap_count * self.lanes
            for row, pixel, width in shape.each(body):
                self._block(body, table, row * shape.row_pixels + pixel, width, weights, base, vectors, tile, first)

    def _put(self, body: Statements, table, number, inputs: list) -> None:
        """Store the sums of up to four inputs: bit i of a lane's number is the sign of input i."""
        total = None
        for i, x in enumerate(inputs):
            vector = spread(body.keep(x, "float32", 1, "x"), self.lanes)
            signs = [-1.0 if lane >> i & 1 else 1.0 for lane in range(self.lanes)]
            part = vector if all(s > 0 for s in signs) else vector * tirx.Shuffle([tirx.const(s, "float32") for s in signs], list(range(self.lanes)))
            total = part if total is None else total + part
        body.store(table, number * self.lanes, total, self.lanes)

    def _block(self, body: Statements, table, pixel, width: int, weights, base, vectors: int, tile, first) -> None:
        """Compute `width` pixels from `pixel` on by `vectors` vectors of channels from `first` on."""
        c, lanes = self.c, self.lanes
        acc, slots = cleared(body, "float32", width, vectors, lanes)
        whole, rest = divmod(self.inputs, _WORD)

        def add(tap, k, quads: int) -> None:
            words = [body.keep(body.load(weights, base + ((tap * c.depth + k) * vectors + j) * lanes, lanes), "uint32", lanes, "word") for j in range(vectors)]
            for quad in range(quads):
                picks = [self._pick(body, word, quad) for word in words]
                for i in range(width):
                    row = body.load(table, (((pixel + i) * (c.taps[0] * c.taps[1]) + tap) * self._quads + k * (_WORD // _FOUR) + quad) * lanes, lanes)
                    row = body.keep(row, "float32", lanes, "sums")
                    for j, pick in enumerate(picks):
                        slot = (i * vectors + j) * lanes
                        body.store(acc, slot, body.load(acc, slot, lanes) + pick(row), lanes)

        with body.loop(c.taps[0] * c.taps[1], "tap") as tap:
            with body.loop(whole, "k") as k:
                add(tap, k, _WORD // _FOUR)
            if rest:
                add(tap, whole, -(-rest // _FOUR))
        for i, j, slot in slots:
            body.store(tile, (pixel + i) * tile_stride(c) + (first + j) * lanes, body.load(acc, slot, lanes), lanes)

    def _pick(self, body: Statements, word, quad: int) -> Callable:
        """Return what picks the sums of a quad by the signs in `word`."""
        lanes = self.lanes

        def shifted(by: int, shift: Callable):
            return shift(word, const(by, "uint32", lanes)) if by else word

        number = body.keep(reinterpret(f"int32x{lanes}", shifted(_FOUR * quad, tirx.shift_right)), "int32", lanes, "number")
        flip = None
        if self._turned:
            high = tirx.bitwise_and(shifted(28 - _FOUR * quad, tirx.shift_left), const(1 << 31, "uint32", lanes))
            flip = body.keep(high, "uint32", lanes, "flip")

        def pick(row):
            found = tirx.call_llvm_pure_intrin(f"float32x{lanes}", _PERMUTE[lanes], row, number)
            return found if flip is None else reinterpret(f"float32x{lanes}", tirx.bitwise_xor(reinterpret(f"uint32x{lanes}", found), flip))

        return pick
