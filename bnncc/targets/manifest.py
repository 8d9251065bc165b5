"""What a target is: one frozen, self-validating manifest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bnncc.errors import InternalError

__all__ = ["OPTIMIZE_FOR", "Core", "Target", "Variant"]

OPTIMIZE_FOR = ("speed", "flash", "ram")


def _is_bare_metal(triple: str) -> bool:
    """Tell whether a triple is of a processor without operating system."""
    return triple.endswith(("-eabi", "-elf"))


@dataclass(frozen=True)
class Core:
    """What a processor does in a cycle at most, for the choice between formulations that need different things.

    Parameters
    ----------
    issue : int
        Instructions.
    vector_pipes : int
        Operations on vectors of 128 bits.
    load_pipes : int
        Loads.
    load_wait : float
        Cycles that an in-order processor waits for a load on average.
    in_runs : bool
        Whether it wants instructions that take equally long side by side, see `vertical_in_order`.
    """

    issue: int
    vector_pipes: int
    load_pipes: int
    load_wait: float = 0.0
    in_runs: bool = False

    @property
    def in_order(self) -> bool:
        """Whether it waits where an operand is late, so that LLVM moves loads far up and a register tile must leave room for them."""
        return self.load_wait > 0

    def cycles(self, instructions: float, vector_operations: float, loads: float, awaited: float | None = None) -> float:
        """Return the cycles that code takes at least; `awaited` are the loads whose results are used at once, all where it is not given."""
        waits = (loads if awaited is None else awaited) * self.load_wait
        return max(instructions / self.issue, vector_operations / self.vector_pipes, loads / self.load_pipes) + waits


@dataclass(frozen=True)
class Variant:
    """One instruction set that code is generated for.

    Parameters
    ----------
    name : str
        Suffix of the generated symbols, a C identifier (``v3``).
    tvm_target : dict
        The TVM target, with ``kind``, ``mtriple``, ``mcpu`` and ``mattr``.
    vector_bits : int
        Width of the widest vector register that kernels use, in bits.
    vector_registers : int
        How many of them there are.
    word_bits : int
        Widest word of a packed tensor, in bits.
    cpu_features : tuple of str
        What the processor must have, as the names that the generated check knows.
    instructions : frozenset of str
        Those that a schedule is chosen by and LLVM does not find by itself: ``pshufb``, ``pmaddwd`` and ``vpermps`` of x86, its ``vpopcnt`` and
        ``vpternlog`` on 512 bits; ``cnt`` (popcount of bytes), ``addp`` (sums of neighbours), ``bsl`` (bitwise select) and ``fmla`` (multiply-add by one
        lane) of NEON; ``scaled-index``, loads from an index times 4; ``two-operands``, arithmetic that overwrites an operand; ``mve``, Helium, or vectors of
        four words that C's compiler knows.
    c_options : tuple of str
        Options of GCC for this processor; only where the output is C, the TVM target's kind is ``c`` then.
    core : Core, optional
        Where formulations are compared by a model of the processor; where not, by measured rules.
    indexed_offsets : bool
        Whether a load can add both a register and a constant to its base.
    epilogue_registers : int
        Vector registers of 32-bit elements that an epilogue evaluates side by side: where bits are gathered by summing bytes, more of them share a sum.
    optimize_for : str
        One of `OPTIMIZE_FOR`: what kernels are chosen for where the choice is between speed and memory, which it is without vectors.
    cycle_model : str
        Which of the models of ``boards/count.c`` is nearest to this core, ``m0`` or ``m4``; empty where none is near.
    """

    name: str
    tvm_target: dict = field(hash=False)
    vector_bits: int
    vector_registers: int
    word_bits: int = 64
    cpu_features: tuple[str, ...] = ()
    instructions: frozenset[str] = frozenset()
    c_options: tuple[str, ...] = ()
    epilogue_registers: int = 1
    optimize_for: str = "speed"
    cycle_model: str = ""
    indexed_offsets: bool = True
    core: Core | None = None

    def __post_init__(self):
        if not self.name.isidentifier():
            raise InternalError(f"variant name {self.name!r} is not a C identifier")
        if self.word_bits not in (8, 16, 32, 64):
            raise InternalError(f"variant {self.name}: word of {self.word_bits} bits")
        if self.vector_bits % self.word_bits:
            raise InternalError(f"variant {self.name}: {self.vector_bits} bits hold no whole number of words")
        if self.optimize_for not in OPTIMIZE_FOR:
            raise InternalError(f"variant {self.name}: kernels for {self.optimize_for!r}")
        if not {"kind", "mtriple"} <= set(self.tvm_target):
            raise InternalError(f"variant {self.name}: the TVM target needs kind and mtriple")

    @property
    def is_scalar(self) -> bool:
        """Whether a register holds one word only, so that kernels are written without vectors."""
        return self.vector_bits == self.word_bits

    @property
    def is_source(self) -> bool:
        """Whether the output is C for a compiler that the user runs, and not machine code."""
        return self.tvm_target["kind"] == "c"

    @property
    def has_float_unit(self) -> bool:
        """Whether it computes float32 without a library; of C for a microcontroller it is the compiler's options that say so."""
        return not (self.is_source and _is_bare_metal(self.tvm_target["mtriple"])) or "-mfloat-abi=hard" in self.c_options

    def lanes(self, dtype_bits: int) -> int:
        """Return how many elements of `dtype_bits` bits a vector register holds."""
        return self.vector_bits // dtype_bits


@dataclass(frozen=True)
class Target:
    """A name on the command line and the variants that one library for it carries, best last.

    Parameters
    ----------
    name : str
        As given to ``--target``.
    description : str
        One line for ``bnncc targets``.
    variants : tuple of Variant
        The library picks the last one that the machine can run, when it is loaded.
    """

    name: str
    description: str
    variants: tuple[Variant, ...]

    @property
    def formats(self) -> tuple[str, ...]:
        """What ``--format`` may be, the default first: ``c`` is source text, ``so`` a shared library, ``object`` an object file."""
        return ("c", "object") if self.variants[0].is_source else ("so", "object", "c")

    def as_source(self) -> Target:
        """Return the target with kernels in C99 for any compiler: words of 32 bits and, where kernels know them, vectors of four."""
        if self.variants[0].is_source:
            return self
        tvm_target = {"kind": "c", "mtriple": self.variants[0].tvm_target["mtriple"]}
        return replace(self, variants=(Variant("c99", tvm_target, 32, 32, word_bits=32, instructions=frozenset({"mve", "scaled-index"})),))

    def optimized_for(self, wanted: str) -> Target:
        """Return the target with kernels for one of `OPTIMIZE_FOR`."""
        return replace(self, variants=tuple(replace(variant, optimize_for=wanted) for variant in self.variants))

    @property
    def has_threads(self) -> bool:
        """Whether a library can share a call among threads, for which it needs those of Linux."""
        return "linux" in self.variants[0].tvm_target["mtriple"] and not self.variants[0].is_source

    def __post_init__(self):
        if not self.variants:
            raise InternalError(f"target {self.name} has no variant")
        if len({v.name for v in self.variants}) != len(self.variants):
            raise InternalError(f"target {self.name} names a variant twice")
