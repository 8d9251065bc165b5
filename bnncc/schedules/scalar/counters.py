"""Vertical counters in words of 32 lanes: the word of level i holds bit i of every lane's count, and full adders of 5 operations join three words of a level.

Words are added one by one, so that few of them are alive at a time: a Cortex-M has 13 registers, of Thumb-1's instructions most reach 8.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from bnncc.schedules.statements import Statements, const

__all__ = ["BLOCK_WINDOW", "Counter", "WORD", "add_block", "add_planes", "add_rows", "chunk_of", "full_adder", "mask", "zero_of"]

WORD = "uint32"

_STRAIGHT = 40
"""Rows that are added without a loop, at most; with a chunk of 8 twice as many as that."""


_BLOCK = 16
"""Rows that a turn of the assembly loop adds."""

BLOCK_WINDOW = 8
"""Rows whose words the cases of the assembly loop tell apart."""


def full_adder(body: Statements, a, b, c, two_operands: bool = False) -> tuple:
    """Return sum and carry; where a and b are equal the carry is b, else c.

    Where instructions overwrite an operand, C compilers need 6 of them, one a copy; a function of the file's preamble takes 5 (`codegen.print_c`).
    """
    if two_operands:
        total, carry = body.local(WORD, 1, "s"), body.local(WORD, 1, "m")
        body.run(tirx.call_extern("int32", "full_adder", *(tirx.address_of(body.load(out, 0)) for out in (total, carry)), a, b, c))
        return body.load(total, 0), body.load(carry, 0)
    ab, bc = body.bind(tirx.bitwise_xor(a, b), "u"), body.bind(tirx.bitwise_xor(b, c), "v")
    carry = tirx.bitwise_xor(tirx.bitwise_and(bc, tirx.bitwise_not(ab)), c)
    return body.bind(tirx.bitwise_xor(ab, c), "s"), body.bind(carry, "m")


def mask(word, bit: int):
    """Return a word of ones where a bit of `word` is 1, else of zeros; an arithmetic shift, which compilers keep (one instruction of Thumb-2)."""
    top = tirx.Cast("int32", tirx.shift_left(word, tirx.const(31 - bit, WORD)))
    return tirx.Cast(WORD, tirx.shift_right(top, tirx.const(31, "int32")))


def zero_of(word: str):
    """Return a word of no bits, of type ``uint32`` or a vector of them."""
    element, _, lanes = word.partition("x")
    return const(0, element, int(lanes or 1))


class Counter:
    """Words waiting to be added, at most two a level.

    Parameters
    ----------
    body : Statements
    levels : dict of int to list
        What waits already.
    two_operands : bool
        Whether the processor's instructions overwrite an operand.
    word : str
        Type of what is added, ``uint32`` or a vector of them.
    """

    def __init__(self, body: Statements, levels: dict[int, list] | None = None, two_operands: bool = False, word: str = WORD):
        self.body, self.two_operands, self.word = body, two_operands, word
        self.levels = {level: list(words) for level, words in (levels or {}).items()}

    @property
    def zero(self):
        """A word of no bits."""
        return zero_of(self.word)

    def like(self, levels: dict[int, list]) -> Counter:
        """Return a counter of the same kind."""
        return Counter(self.body, levels, self.two_operands, self.word)

    def add(self, word, level: int = 0) -> None:
        """Add a word of weight ``2 ** level``."""
        waiting = self.levels.setdefault(level, [])
        waiting.append(word)
        if len(waiting) == 3:
            kept, carry = full_adder(self.body, *waiting, self.two_operands)
            self.levels[level] = [kept]
            self.add(carry, level + 1)

    def carry_out(self, top: int):
        """Return where the count reaches ``2 ** top``; it must stay below twice that."""
        for level in range(top):
            words = self.levels.pop(level, [])
            if len(words) == 2:
                self.add(self.body.bind(tirx.bitwise_and(*words), "m"), level + 1)
        (first, *rest) = self.levels.get(top, [self.zero])
        for word in rest:
            first = tirx.bitwise_or(first, word)
        return first

    def planes(self, count: int) -> list:
        """Return `count` words, plane by plane of the binary number."""
        planes = []
        for level in range(count):
            words = self.levels.pop(level, [])
            if len(words) == 2:
                a, b = words
                words = [self.body.bind(tirx.bitwise_xor(a, b), "s")]
                if level + 1 < count:
                    self.add(self.body.bind(tirx.bitwise_and(a, b), "m"), level + 1)
            planes.append(words[0] if words else self.zero)
        return planes


def chunk_of(rows: int, registers: int, block: bool = False) -> int:
    """Return how many of `rows` rows a turn of their loop adds: a longer one carries out less, but keeps more planes in registers.

    With the 8 registers that most of Thumb-1's instructions reach, 16 rows a turn spill: 7.5 instructions a word became 6.3 with 8 rows. Where a `block` of
    assembly adds them (`add_block`), 16 do not.
    """
    if block:
        return _BLOCK
    if registers <= 8:
        return 8
    return 32 if rows >= 128 else 16


def add_block(body: Statements, table: tuple, cases: tuple, turns: int, planes, carried) -> None:
    """Add rows by the loop of the file's preamble (`codegen.print_c`), which is assembly on ARMv6-M.

    Parameters
    ----------
    table : (Buffer, index)
        Rows of 8 words.
    cases : (Buffer, index)
        Bytes: the places of words of their rows, in bytes, in windows of `BLOCK_WINDOW` rows.
    turns : int
        Of 16 rows.
    planes, carried : Buffer
        Four planes of the counters; a word for each turn.
    """
    pointers = [tirx.address_of(body.load(*place)) for place in (table, cases, (planes, 0), (carried, 0))]
    body.run(tirx.call_extern("int32", "add_rows", *pointers[:2], turns, *pointers[2:]))


def add_rows(
    counter: Counter, rows: int, look: Callable, chunk: int, slot: Callable | None = None, level: int = 0, block: Callable | None = None
) -> None:
    """Add `rows` words of weight ``2 ** level``, in a loop over chunks where they are many.

    Parameters
    ----------
    counter : Counter
        Holds at most one word in each of the first levels.
    look : callable
        ``look(chunk)`` is called where a chunk (an int or an expression) begins, and returns a function of the place in it (an int) that gives the word there.
    chunk : int
        Rows of one turn, a power of two: one word is carried out of a turn, and kept in a buffer until all are done.
    slot : callable, optional
        ``slot(chunk)``: (buffer, index) where the word carried out of a chunk is kept. A place beside the chunk's rows needs no pointer of its own.
    block : callable, optional
        ``block(chunks, planes, carried)`` writes the loop over chunks as a call, with the first planes in one buffer and words carried out in another.
    """
    body = counter.body
    whole, rest = divmod(rows, chunk)
    if rows <= min(_STRAIGHT, (1 if block else 2) * chunk):
        for first in range(0, rows, chunk):
            word = look(first // chunk)
            for place in range(min(chunk, rows - first)):
                counter.add(body.bind(word(place), "w"), level)
        return
    inner = range(level, level + chunk.bit_length() - 1)
    if block is not None:
        planes, carried, slotted = body.local(WORD, len(inner), "planes"), body.local(WORD, whole, "carried"), False
        for at, i in enumerate(inner):
            (*waiting,) = counter.levels.pop(i, [])
            body.store(planes, at, waiting.pop() if waiting else counter.zero)
            counter.levels[i] = waiting
        block(whole, planes, carried)
        for at, i in enumerate(inner):
            counter.add(body.load(planes, at), i)
    else:
        carried, slotted = _add_chunks(counter, whole, look, inner, slot), slot is not None
    if rest:
        word = look(whole)
        for place in range(rest):
            counter.add(body.bind(word(place), "w"), level)

    again = chunk if block is None else _BLOCK // 2  # of words that stand one behind another, which no block adds

    def carries(chunk_of_carries):
        if slotted:
            return lambda place: body.load(*slot(chunk_of_carries * again + place))
        part = body.part(carried, chunk_of_carries * again, again, "carries")
        return lambda place: body.load(part, place)

    add_rows(counter, whole, carries, again, None, inner.stop)


def _add_chunks(counter: Counter, whole: int, look: Callable, inner: range, slot: Callable | None):
    """Add whole chunks in a loop; return the buffer of what is carried out of them, where there are no slots for it."""
    body, carried = counter.body, None
    kept = {i: body.local(counter.word, 1, "plane") for i in inner}
    if slot is None:
        carried = body.local(counter.word, whole, "carried")
        slot = lambda at: (body.part(carried, at, 1, "carry"), 0)  # noqa: E731
    for i, buffer in kept.items():
        (*waiting,) = counter.levels.pop(i, [])
        body.store(buffer, 0, waiting.pop() if waiting else counter.zero)
        counter.levels[i] = waiting
    with body.loop(whole, "chunk") as at:
        turn, word = counter.like({i: [body.load(buffer, 0)] for i, buffer in kept.items()}), look(at)
        for place in range(1 << len(inner)):
            turn.add(body.bind(word(place), "w"), inner.start)
        for i, buffer in kept.items():
            body.store(buffer, 0, turn.levels[i][0])
        body.store(*slot(at), turn.levels[inner.stop][0])
    for i, buffer in kept.items():
        counter.add(body.load(buffer, 0), i)
    return carried


def add_planes(counter: Counter, chunks: int, look: Callable, chunk: int, planes, carried) -> None:
    """Add rows of weight 1 from as many planes as are found to be needed: whole chunks of each, one word carried out of each.

    Parameters
    ----------
    look : callable
        ``look(plane, chunk)``, else as of `add_rows`.
    planes : PrimExpr
        1 or 2.
    carried : Buffer
        Of two words for each chunk, 0 where the second plane is not counted.
    """
    body, levels = counter.body, range(chunk.bit_length() - 1)
    kept = {i: body.local(counter.word, 1, "plane") for i in levels}
    for i, buffer in kept.items():
        (*waiting,) = counter.levels.pop(i, [])
        body.store(buffer, 0, waiting.pop() if waiting else counter.zero)
        counter.levels[i] = waiting
    with body.loop(planes, "plane") as plane, body.loop(chunks, "chunk") as at:
        turn, word = counter.like({i: [body.load(buffer, 0)] for i, buffer in kept.items()}), look(plane, at)
        for place in range(chunk):
            turn.add(body.bind(word(place), "w"))
        for i, buffer in kept.items():
            body.store(buffer, 0, turn.levels[i][0])
        body.store(carried, plane * chunks + at, turn.levels[levels.stop][0])
    for i, buffer in kept.items():
        counter.add(body.load(buffer, 0), i)
    add_rows(counter, 2 * chunks, lambda at: lambda place: body.load(carried, at * chunk + place), chunk, None, levels.stop)
