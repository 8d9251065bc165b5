"""What the kernels of one word a register call in C: bytes at an address, and the transposition of 32 x 32 bits (`codegen.print_c`)."""

from __future__ import annotations

from tvm import tirx

from bnncc.schedules.statements import Statements

__all__ = [
    "VECTOR",
    "VECTOR_REGISTERS",
    "VECTOR_WORDS",
    "gather_vector",
    "keep_vector",
    "load_vector",
    "peek",
    "store_vector",
    "transpose",
    "transpose_vectors",
]

VECTOR_WORDS = 4
VECTOR_REGISTERS = 8

VECTOR = f"uint32x{VECTOR_WORDS}"
"""Of Helium: 128 bits, for which C has a type and functions."""


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


def keep_vector(body: Statements, words: list):
    """Return the vector of four words, made once, here."""
    buffer = body.local("uint32", VECTOR_WORDS, "words")
    for i, word in enumerate(words):
        body.store(buffer, i, word)
    return body.bind(load_vector(body, buffer, 0), "vector")


def load_vector(body: Statements, buffer, index):
    """Return the vector of the words of `buffer` from `index` on."""
    return tirx.call_extern(VECTOR, "load4", tirx.address_of(body.load(buffer, index)))


def gather_vector(body: Statements, buffer, index, offsets):
    """Return the vector of words that stand `offsets` bytes behind a word of `buffer`."""
    return tirx.call_extern(VECTOR, "gather4", tirx.address_of(body.load(buffer, index)), offsets)


def store_vector(body: Statements, buffer, index, value) -> None:
    """Store a vector as words of `buffer` from `index` on."""
    body.run(tirx.call_extern("int32", "store4", tirx.address_of(body.load(buffer, index)), value))


def transpose_vectors(body: Statements, source: tuple, step, count: int, offsets, target: tuple) -> None:
    """Transpose bits of four matrices at once, whose words stand `offsets` bytes behind those of `source`; their results stand side by side in `target`."""
    pointers = [tirx.address_of(body.load(*place)) for place in (source, target)]
    body.run(tirx.call_extern("int32", "transpose32x4", pointers[0], step, count, offsets, pointers[1], VECTOR_WORDS))
