"""A straight way to write TensorIR statements from Python: nested loops as `with` blocks, vectors as index plus lanes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from tvm import sym, tirx

__all__ = ["Statements", "const", "quotient_and_remainder", "reinterpret", "spread", "simplify", "vector_type"]

_analyzer = sym.Analyzer()


def simplify(expr):
    """Return an index expression in its shortest form."""
    return expr if isinstance(expr, int) else _analyzer.simplify(expr)


def const(value, dtype: str, lanes: int = 1):
    """Return a constant, in all lanes of a vector where `lanes` > 1."""
    return spread(tirx.const(value, dtype), lanes)


def spread(value, lanes: int):
    """Return a scalar in all lanes of a vector."""
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def vector_type(dtype: str, lanes: int) -> str:
    """Return the type of a vector, or of its element where `lanes` is 1."""
    return f"{dtype}x{lanes}" if lanes > 1 else dtype


def quotient_and_remainder(value, by: int) -> tuple:
    """Return quotient and remainder of a number that is not negative."""
    return divmod(value, by) if isinstance(value, int) else (tirx.truncdiv(value, by), tirx.truncmod(value, by))


def reinterpret(dtype: str, value):
    """Return the bits of a value as another type of the same size."""
    return tirx.call_intrin(dtype, "tirx.reinterpret", value)


class Statements:
    """Collects statements; all buffers are one-dimensional.

    Parameters
    ----------
    whole_vectors : bool
        Whether values of vector type are kept in buffers of that type, as C wants them, and not in buffers of their elements.

    Notes
    -----
    TVM's simplifier substitutes `Bind` values into their uses, which grows exponentially in chains of values used twice. `keep` stores a
    value in a buffer of one vector instead; LLVM turns it into a register.
    """

    def __init__(self, whole_vectors: bool = False):
        self._whole_vectors = whole_vectors
        self._blocks: list[list[tirx.Stmt]] = [[]]
        self._serial = itertools.count()

    def load(self, buffer, index, lanes: int = 1):
        """Return `lanes` consecutive elements of `buffer` from `index` on."""
        index = simplify(index)
        return tirx.BufferLoad(buffer, [tirx.Ramp(index, 1, lanes) if lanes > 1 else index])

    def store(self, buffer, index, value, lanes: int = 1) -> None:
        """Store `lanes` consecutive elements."""
        index = simplify(index)
        self._blocks[-1].append(tirx.BufferStore(buffer, value, [tirx.Ramp(index, 1, lanes) if lanes > 1 else index]))

    def local(self, dtype: str, size: int, name: str):
        """Allocate a buffer that lives to the end of the open block."""
        buffer = tirx.decl_buffer((size,), dtype, f"{name}{next(self._serial)}", scope="local")
        self._blocks[-1].append(tirx.AllocBuffer(buffer))
        return buffer

    def keep(self, value, dtype: str, lanes: int, name: str):
        """Compute `value` once, here, and return its load."""
        buffer = self.local(dtype, lanes, name)
        self.store(buffer, 0, value, lanes)
        return self.load(buffer, 0, lanes)

    def bind(self, value, name: str):
        """Compute `value` once, here, as `keep` does, whatever its type is."""
        if self._whole_vectors:
            return self.keep(value, str(value.ty.dtype), 1, name)
        dtype, _, lanes = str(value.ty.dtype).partition("x")
        return self.keep(value, dtype, int(lanes or 1), name)

    def part(self, buffer, index, size: int, name: str):
        """Return the elements of `buffer` from `index` on as a buffer of their own: what is added to the pointer once need not be added at each access."""
        start = tirx.address_of(self.load(buffer, index))
        pointer = tirx.Var(f"{name}{next(self._serial)}", start.ty)
        self._blocks[-1].append(tirx.Bind(pointer, start))
        part = tirx.decl_buffer((size,), str(buffer.ty.dtype), f"{name}{next(self._serial)}", data=pointer, scope=start.ty.storage_scope or "global")
        self._blocks[-1].append(tirx.DeclBuffer(part, data=pointer))
        return part

    def run(self, call) -> None:
        """Evaluate a call for what it does."""
        self._blocks[-1].append(tirx.Evaluate(call))

    def fence(self, value) -> None:
        """Keep LLVM's schedulers from moving instructions across this place; `value` is any that is computed before it."""
        self._blocks[-1].append(tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.fake.use", value)))

    def prefetch(self, buffer, index) -> None:
        """Ask for the cache line of an element of `buffer`."""
        hints = [tirx.const(hint, "int32") for hint in (0, 3, 1)]  # to be read, kept in all levels, data
        self._blocks[-1].append(tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch.p0", tirx.address_of(self.load(buffer, index)), *hints)))

    @contextmanager
    def loop(self, extent, name: str, start=0, parallel: bool = False) -> Iterator:
        """Open a loop from `start` over `extent` iterations and yield its variable; no loop is made for a single iteration, or around nothing.

        The iterations of a `parallel` one may be shared out to threads. Where one loop of a kernel is, what is stored to a tensor must be stored in such a
        loop, be it of a single iteration.
        """
        if isinstance(extent, int) and extent == 1 and not parallel:
            yield start
            return
        var = tirx.Var(f"{name}{next(self._serial)}", "int32")
        self._blocks.append([])
        yield var
        written = self._blocks.pop()
        if written:
            kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
            self._blocks[-1].append(tirx.For(var, start, extent, kind, self._sequence(written)))

    @contextmanager
    def when(self, condition) -> Iterator[None]:
        """Open a branch."""
        self._blocks.append([])
        yield
        body = self._sequence(self._blocks.pop())
        self._blocks[-1].append(tirx.IfThenElse(condition, body, None))

    def finish(self) -> tirx.Stmt:
        """Return everything written so far as one statement."""
        return self._sequence(self._blocks[0])

    @staticmethod
    def _sequence(statements: list[tirx.Stmt]) -> tirx.Stmt:
        return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
