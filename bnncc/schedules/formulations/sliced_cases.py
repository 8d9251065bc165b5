"""Cases of the sliced formulation: the three bits of x of each triple, as a byte that is an offset in a row of the table already, some pixels at a time.

Words of as many pixels as fill a register stand side by side in it. Bits j and j + 4 of the bytes of three words become the nibbles of one word; a mask gives
the cases of bits j + 4, a shift and the mask those of bits j::

    bytes of word j     0 c b a 0 c b a      of bits j + 4 and j
    & 112               0 c b a 0 0 0 0      of bits j + 4, in units of 16 bytes
    << 4, & 112         0 c b a 0 0 0 0      of bits j

Where loads add one register to their base and nothing more, the row is put beside the case, so that the byte is where the load finds its vector, counted in
vectors::

    & 7, | row << 3     r r r r r c b a      of bits j
    >> 4, | row << 3    r r r r r c b a      of bits j + 4

That is some 40 operations for the 64 cases of three words of all pixels of a register; spreading each bit apart took 28 a pixel.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.statements import Statements, const, reinterpret

__all__ = ["CASE_ROWS", "CASE_UNIT", "Cases"]

CASE_ROWS = 32
"""Rows that a case tells apart where they are part of it."""

CASE_UNIT = 16
"""Bytes of a row that a case counts in where it has no row."""


class Cases:
    """Where the cases stand, and how those of three words are stored: [three words][bit of a byte][pixel][byte].

    With rows [pixels of a register][three words][bit of a byte][pixel][byte]: all cases of a pixel are near each other, so that a load reaches them from one
    register.

    Parameters
    ----------
    body : Statements
    pixels : int
    triples : int
        Words of cases a pixel.
    side : int
        Words of 64 bits in a register, of as many pixels.
    with_rows : bool
        Whether the row is part of the case.
    """

    def __init__(self, body: Statements, pixels: int, triples: int, side: int, with_rows: bool):
        self._body, self._octets, self.side, self.with_rows = body, 8 * triples, side, with_rows
        self._blocks = -(-pixels // side)
        self._buffer = body.local("uint8", triples * self._blocks * side * 64, "cases")

    def load(self, pixel, first, more: int):
        """Load the case of a pixel that is `more` after the `first`, of 64 a triple of words in the order of `case_place`.

        Where `first` is an expression, no triple ends between.
        """
        if isinstance(first, int):
            first, more = 0, first + more
        octet = tirx.truncdiv(first, 8) + more // 8
        if self.with_rows:
            at = self._at(octet, tirx.truncdiv(pixel, self.side)) + tirx.truncmod(pixel, self.side) * 8
        else:
            at = self._at(octet, 0) + pixel * 8
        return tirx.Cast("int32", self._body.load(self._buffer, at + more % 8))

    def _at(self, octet, block):
        """Return where eight cases of the pixels of a block stand."""
        place = block * self._octets + octet if self.with_rows else octet * self._blocks + block
        return place * (8 * self.side)

    def store(self, words: tuple, triple, block, rows: list[int]) -> None:
        """Store the cases of three words, each of the pixels of a `block` side by side; `rows` are those of the 64 places."""
        lanes = 8 * self.side
        for j, word in enumerate(self._nibbles(words)):
            if self.with_rows:
                octets = self._body.bind(reinterpret(f"uint8x{lanes}", word), "octets")
                low, high = tirx.bitwise_and(octets, const(7, "uint8", lanes)), tirx.shift_right(octets, const(4, "uint8", lanes))
            else:
                low, high = (reinterpret(f"uint8x{lanes}", self._mask(part, 0b0111, 0xF0)) for part in (self._up(word, 4), word))
            for bit, case in ((j, low), (j + 4, high)):
                if self.with_rows:
                    of_bit = [rows[8 * bit + i % 8] % CASE_ROWS * 8 for i in range(lanes)]
                    case = case | tirx.Shuffle([tirx.const(row, "uint8") for row in of_bit], list(range(lanes)))
                self._body.store(self._buffer, self._at(triple * 8 + bit, block), case, lanes)

    def _nibbles(self, words: tuple) -> list:
        """Return four words: nibble i of word j is the case of bit 4 i + j."""
        (a, b, c), bind, mask, up, down = words, self._body.bind, self._mask, self._up, self._down
        # pairs of a and b of the even bits, and of the odd ones
        even = bind(mask(a, 0b0101) | up(mask(b, 0b0101), 1), "even")
        odd = bind(mask(down(a, 1), 0b0101) | mask(b, 0b1010), "odd")
        pairs = (even, odd, down(even, 2), down(odd, 2))
        thirds = (up(c, 2), up(c, 1), c, down(c, 1))
        return [bind(mask(pair, 0b0011) | mask(third, 0b0100), "nibbles") for pair, third in zip(pairs, thirds, strict=True)]

    def _mask(self, value, pattern: int, of_octets: int = 0xFF):
        """Keep the bits of a pattern of four in all nibbles, or in those of a byte that are named."""
        return tirx.bitwise_and(value, const((pattern * 0x11 & of_octets) * 0x0101010101010101, "uint64", self.side))

    def _up(self, value, bits: int):
        return tirx.shift_left(value, const(bits, "uint64", self.side)) if bits else value

    def _down(self, value, bits: int):
        return tirx.shift_right(value, const(bits, "uint64", self.side)) if bits else value
