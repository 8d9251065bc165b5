"""Which layout tensors between kernels have, by measured times: whether an image is padded or brought to NHWC in memory or inside the kernel that reads it, and
whether a maximum on words has a kernel of its own.

The rule joins them. Where each of the kernels that one way has and the other has not was measured (`bnncc tune` does), the sums of their times decide, place by
place: the places do not share kernels, as each is about an image that one kernel alone reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import tvm
import tvm_ffi
from tvm import relax

from bnncc.passes.step_work import kernel_calls

__all__ = ["LEAST_SAVED", "Fuse", "Measured", "assign", "differing_groups", "workload_key"]

LEAST_SAVED = 0.05
"""What has to be saved of the time of the kernels concerned: they were not measured in turns with each other."""

Fuse = Callable[[frozenset[str]], tuple[tvm.IRModule, tuple[str, ...]]]
"""Groups, and the places left, where something joined a kernel; for places where it shall not."""

Measured = Callable[[relax.Function], Mapping[tuple, float]]
"""A group to what its best kernel was measured to take, by machine and metric; empty where it was not measured."""


def workload_key(group: relax.Function) -> str:
    """Return the key of a group: equal for groups that get the same kernel, whatever their variables are called and their constants hold."""
    return f"{tvm_ffi.structural_hash(group, map_free_vars=True) & (1 << 64) - 1:016x}"


def _groups(fused: tvm.IRModule) -> tuple[Counter, dict[str, relax.Function]]:
    found, known = Counter(), {}
    for binding, _ in kernel_calls(fused):
        group = fused[binding.value.op]
        key = workload_key(group)
        found[key] += 1
        known[key] = group
    return found, known


def differing_groups(one: tvm.IRModule, other: tvm.IRModule) -> tuple[list[relax.Function], list[relax.Function]]:
    """Return the groups that one module calls more often than the other, each as often as that, and those of which the other has more."""
    (first, known), (second, others) = _groups(one), _groups(other)
    known |= others
    return [known[key] for key in (first - second).elements()], [known[key] for key in (second - first).elements()]


def assign(fuse: Fuse, measured: Measured) -> tuple[tvm.IRModule, tuple[str, ...]]:
    """Return the groups with each place as its measured times say, and what was decided otherwise than by rule."""
    joined, places = fuse(frozenset())
    decided: dict[str, str] = {}
    for place in places:
        separate, _ = fuse(frozenset({place}))
        if (ratio := _ratio(joined, separate, measured)) is not None and ratio <= 1 - LEAST_SAVED:
            decided[place] = f"{place}: apart, as measured, {ratio:.2f} of the time of the kernel that it would join"
    return (fuse(frozenset(decided))[0] if decided else joined), tuple(decided.values())


def _ratio(joined: tvm.IRModule, separate: tvm.IRModule, measured: Measured) -> float | None:
    """Return the time of the separate kernels over that of the joined ones, where all were measured by one machine; the worst where several did."""
    sides = [[measured(group) for group in side] for side in differing_groups(joined, separate)]
    if not all(sides):
        return None
    campaigns = set.intersection(*(set(times) for side in sides for times in side))
    ratios = [sum(times[campaign] for times in sides[1]) / sum(times[campaign] for times in sides[0]) for campaign in campaigns]
    return max(ratios, default=None)
