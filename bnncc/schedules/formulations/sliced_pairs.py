"""Cases of the sliced formulation for processors whose loads add one register to their base and nothing more: two pixels at a time, the row in the case.

A byte holds the row of a case among 32 and the case, so that it is where the load finds its vector, counted in vectors. Words of two pixels stand side by side
in a register. Bits j and j + 4 of the bytes of three words become the nibbles of one word; a mask gives the cases of bits j, a shift those of bits j + 4, and
the rows are put beside them::

    bytes of word j     0 c b a 0 c b a      of bits j + 4 and j
    & 7, | row << 3     r r r r r c b a      of bits j
    >> 4, | row << 3    r r r r r c b a      of bits j + 4

That is some 20 operations for the 64 cases of three words of a pixel, where spreading each bit apart took 50, and half the loads and stores of cases in
two bytes.
"""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.statements import Statements, const

__all__ = ["CASE_ROWS", "PairedCases"]

CASE_ROWS = 32
"""Rows that a case tells apart."""

_PIXELS = 2
_LANES = 16


class PairedCases:
    """Where the cases stand, and how those of three words are stored: [two pixels][three words][bit of a byte][pixel][byte].

    All cases of a pixel are near each other, so that a load reaches them from one register.

    Parameters
    ----------
    pixels : int
        Of the tile.
    triples : int
    """

    dtype = "uint8"

    def __init__(self, pixels: int, triples: int):
        self.triples = triples
        self.size = triples * -(-pixels // _PIXELS) * _PIXELS * 64

    def at(self, triple, pixel, place: int):
        """Return where the case of a place of a pixel stands."""
        pair, which = tirx.truncdiv(pixel, _PIXELS), tirx.truncmod(pixel, _PIXELS)
        return (pair * self.triples + triple) * (_PIXELS * 64) + place // 8 * _LANES + which * 8 + place % 8

    def store(self, body: Statements, words: tuple, cases, triple, pair, rows: list[int]) -> None:
        """Store the cases of three words of two pixels; `rows` are those of the 64 places."""
        to = (pair * self.triples + triple) * (_PIXELS * 64)
        for j, word in enumerate(_nibbles(body, words)):
            octets = body.bind(tirx.call_intrin(f"uint8x{_LANES}", "tirx.reinterpret", word), "octets")
            low = tirx.bitwise_and(octets, const(7, "uint8", _LANES))
            for bit, case in ((j, low), (j + 4, tirx.shift_right(octets, const(4, "uint8", _LANES)))):
                of_bit = [rows[8 * bit + i % 8] % CASE_ROWS * 8 for i in range(_LANES)]
                body.store(cases, to + bit * _LANES, case | tirx.Shuffle([tirx.const(row, "uint8") for row in of_bit], list(range(_LANES))), _LANES)


def _mask(value, pattern: int):
    return tirx.bitwise_and(value, const(pattern * 0x1111111111111111, "uint64", _PIXELS))


def _up(value, bits: int):
    return tirx.shift_left(value, const(bits, "uint64", _PIXELS)) if bits else value


def _down(value, bits: int):
    return tirx.shift_right(value, const(bits, "uint64", _PIXELS))


def _nibbles(body: Statements, words: tuple) -> list:
    """Return four words: nibble i of word j is the case of bit 4 i + j."""
    a, b, c = words
    # pairs of a and b of the even bits, and of the odd ones
    even = body.bind(_mask(a, 0b0101) | _up(_mask(b, 0b0101), 1), "even")
    odd = body.bind(_mask(_down(a, 1), 0b0101) | _mask(b, 0b1010), "odd")
    pairs = (even, odd, _down(even, 2), _down(odd, 2))
    thirds = (_up(c, 2), _up(c, 1), c, _down(c, 1))
    return [_mask(pair, 0b0011) | _mask(third, 0b0100) for pair, third in zip(pairs, thirds, strict=True)]
