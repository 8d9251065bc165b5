"""Which codes a tensor can hold: read off its quantizer, followed through data movement. Bits hold -1, 0 and +1, integer arithmetic the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import relax

from bnncc.ops import dtype_of, is_bnn, static_shape
from bnncc.passes.chains import ELEMENTWISE
from bnncc.passes.rewrite import constant, op_name, used_vars

__all__ = ["CODE_TYPES", "LARGEST_SUM", "CodeRange", "code_range", "accumulator_bounds", "runs_on_bits"]

CODE_TYPES = ("int8", "uint8", "int16")

LARGEST_SUM = (1 << 31) - 1
"""What an integer accumulator holds."""


@dataclass(frozen=True)
class CodeRange:
    """Codes ``lo, lo + step, ..., hi``; not all of them need occur."""

    lo: int
    hi: int
    step: int

    @property
    def levels(self) -> int:
        """How many codes there are."""
        return (self.hi - self.lo) // self.step + 1 if self.step else 1

    @property
    def codes(self) -> np.ndarray:
        """The codes, ascending."""
        return np.arange(self.lo, self.hi + 1, max(self.step, 1))

    @property
    def fits_bits(self) -> bool:
        """Whether the codes are among -1, 0 and +1."""
        return self.lo >= -1 and self.hi <= 1

    def union(self, other: CodeRange) -> CodeRange:
        """Return the smallest range that holds both."""
        return CodeRange(min(self.lo, other.lo), max(self.hi, other.hi), math.gcd(self.step, other.step, self.lo - other.lo))


def code_range(code: relax.Expr, value_of: Callable[[relax.Expr], relax.Expr | None]) -> CodeRange:
    """Return the codes that `code` can hold.

    Parameters
    ----------
    code : Expr
        An int8, uint8 or int16 tensor; bytes from outside are 0 to 255, int8 from outside -1 and +1.
    value_of : callable
        What a variable is bound to, None for a parameter: `Graph.value`, or `Builder.values.get`.
    """
    known: dict[relax.Expr, CodeRange] = {}

    def visit(each):
        if each not in known:
            known[each] = find(each)
        return known[each]

    def find(each):
        made = value_of(each)
        if is_bnn(made, "quantize"):
            lo, step = int(made.attrs.lo), int(made.attrs.step)
            return CodeRange(lo, lo + step * static_shape(made.args[1])[0], step)
        if is_bnn(made, "logic"):
            return CodeRange(-1, 1, 1 if 0 in made.attrs.table else 2)
        if op_name(made) in ELEMENTWISE:
            limits = np.iinfo(dtype_of(each))
            real = value_of(made.args[0])
            if op_name(made) == "relax.astype" and op_name(real) == "relax.clip":
                low, high = (int(round(bound.value)) for bound in real.args[1:])
                return CodeRange(max(low, int(limits.min)), min(high, int(limits.max)), 1)
            return centred(made) or CodeRange(int(limits.min), int(limits.max), 1)
        if made is None and dtype_of(each) == "uint8":
            return CodeRange(0, 255, 1)
        if op_name(made) == "relax.take" and (table := constant(made.args[0])) is not None:
            return CodeRange(int(table.min()), int(table.max()), 1)
        sources = [visit(v) for v in used_vars(made) if dtype_of(v) in CODE_TYPES] if made is not None else []
        if not sources:
            return CodeRange(-1, 1, 2)
        found = sources[0]
        for other in sources[1:]:
            found = found.union(other)
        if is_bnn(made, "pad") and made.attrs.mode == "constant":
            found = found.union(CodeRange(int(made.attrs.code), int(made.attrs.code), 0))
        return found

    def centred(made):
        """Return the range of codes widened, multiplied or shifted by constants; None where it is none of these."""
        if op_name(made) == "relax.astype" and dtype_of(made.args[0]) in CODE_TYPES:
            return visit(made.args[0])
        by = constant(made.args[1]) if op_name(made) in ("relax.multiply", "relax.subtract") else None
        if by is None or dtype_of(made.args[0]) not in CODE_TYPES:
            return None
        before, least, largest = visit(made.args[0]), int(by.min()), int(by.max())
        if op_name(made) == "relax.subtract":
            return CodeRange(before.lo - largest, before.hi - least, before.step if least == largest else 1)
        ends = [end * factor for end in (before.lo, before.hi) for factor in (least, largest)]
        return CodeRange(min(ends), max(ends), before.step * abs(least) if least == largest else 1)

    return visit(code)


def accumulator_bounds(call: relax.Call, codes: CodeRange) -> tuple[int, int]:
    """Return the least and the largest sum of any output channel of a ``bnn.conv2d`` or ``bnn.dense`` on these codes."""
    if is_bnn(call, "conv2d") and any(int(p) for p in call.attrs.padding):
        codes = codes.union(CodeRange(int(call.attrs.pad_code), int(call.attrs.pad_code), 0))
    weights = constant(call.args[1]).astype(np.int64)
    weights = weights.reshape(len(weights), -1)
    ends = np.stack([weights * codes.lo, weights * codes.hi])
    return int(ends.min(0).sum(1).min()), int(ends.max(0).sum(1).max())


def runs_on_bits(call: relax.Call, codes: CodeRange) -> bool:
    """Tell whether a ``bnn.conv2d`` or ``bnn.dense`` on these codes is one of packed bits: signs as weights, -1, 0 and +1 as codes."""
    return codes.fits_bits and bool(np.all(np.abs(constant(call.args[1])) == 1))
