"""What the kernels of one word a register call in C: bytes at an address, and the transposition of 32 x 32 bits (`codegen.print_c`)."""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.statements import Statements

__all__ = ["peek", "transpose"]


def peek(body: Statements, buffer, index, dtype: str, offset):
    """Return the `dtype` that stands `offset` bytes behind an element of `buffer`: a table of words read by offset, or words read byte by byte."""
    return tirx.call_extern(dtype, f"peek_{dtype}", tirx.address_of(body.load(buffer, index)), offset)


def transpose(body: Statements, source: tuple, step, count: int, target: tuple, target_step) -> None:
    """Transpose bits: of 32 words of `source`, `step` elements apart, bit i of word j becomes bit j of word i of `target`.

    Parameters
    ----------
    source, target : (Buffer, index)
        Of 32-bit words.
    count : int
        How many words are read, the others are 0.
    """
    pointers = [tirx.address_of(body.load(*place)) for place in (source, target)]
    body.run(tirx.call_extern("int32", "transpose32", pointers[0], step, count, pointers[1], target_step))
