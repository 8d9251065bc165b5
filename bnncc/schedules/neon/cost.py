"""Which formulation a 64-bit Arm processor computes a binary contraction by: a model of what each takes for one pixel, and of what the processor can do in a
cycle.

The numbers are those of the assembly (benchmarks/arm_instructions.py counts whole layers, and a test holds the model to them): the inner loops, what is done
once for 8 or 128 channels (accumulators, transposition, thresholds, packing), and for sliced what is done once a pixel, the cases, which few channels share.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.schedules.formulations.formulation import BinaryShape, Formulation
from bnncc.schedules.formulations.popcount import popcount
from bnncc.schedules.formulations.sliced import sliced_formulation
from bnncc.schedules.formulations.sliced_table import queue_words, row_count, triples
from bnncc.schedules.neon.popcount import lane_bits, popcount_tree
from bnncc.targets import Variant

__all__ = ["Cost", "fastest_on_neon", "sliced_cost", "tree_cost"]


@dataclass(frozen=True)
class Cost:
    """Of one pixel, all channels: instructions, operations on vectors, loads, and loads that an in-order processor waits for."""

    instructions: float
    vector_operations: float
    loads: float
    awaited: float


def tree_cost(shape: BinaryShape) -> Cost:
    """Return what the popcount tree takes."""
    registers = shape.taps[0] * shape.taps[1] * shape.words * lane_bits(shape) / 16
    vectors = shape.groups * -(-shape.outputs // 8)
    loads = vectors * (0.2 * registers + 3)
    return Cost(vectors * (3.14 * registers + 10), vectors * (3 * registers + 4), loads, loads)


def sliced_cost(shape: BinaryShape, in_runs: bool = False) -> Cost:
    """Return what the sliced formulation takes; `in_runs`, where its lookups are loaded early enough on a processor that executes in order."""
    words = queue_words(shape.taps[0] * shape.taps[1], shape.inputs, shape.word_bits)
    n, lookups = triples(words), row_count(words)
    vectors = shape.groups * -(-shape.outputs // 128)
    # limits in the counters leave nothing to do, counts are transposed
    answers = shape.answers and shape.outputs % 128 == 0 and isinstance(shape.planes, int) and shape.planes == 1
    instructions = vectors * (5.25 * lookups + (60 if answers else 330)) + shape.groups * (25 * n + 100)
    others = vectors * 60 + shape.groups * (2 * n + 20)
    loads = vectors * 2.1 * lookups + others
    vector_operations = vectors * (3.05 * lookups + (20 if answers else 240)) + shape.groups * (20 * n + 60)
    return Cost(instructions, vector_operations, loads, others if in_runs else loads)


def popcount_cost(shape: BinaryShape) -> Cost:
    """Return what the plain popcount takes, whose counts are widened from bytes at every step."""
    steps = shape.taps[0] * shape.taps[1] * shape.words * -(-shape.outputs * max(32, shape.word_bits) // 128) * shape.groups
    widened = 4 if shape.word_bits == 64 else 3
    return Cost((3.3 + widened) * steps, (2 + widened) * steps, 1.2 * steps, 1.2 * steps)


def fastest_on_neon(shape: BinaryShape, variant: Variant) -> Formulation:
    """Return the formulation of the fewest cycles of those whose counts fit."""

    def cycles(candidate) -> float:
        cost = candidate[0]
        return variant.core.cycles(cost.instructions, cost.vector_operations, cost.loads, cost.awaited)

    sliced = (sliced_cost(shape, variant.core.in_runs), sliced_formulation)
    candidates = sorted(((tree_cost(shape), popcount_tree), sliced, (popcount_cost(shape), popcount)), key=cycles)
    return next(found for _, choose in candidates if (found := choose(shape, variant)))
