"""Which decisions a compilation takes from the records, and why not where it takes none."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from tvm import relax

from bnncc.codegen.parallel import is_shared
from bnncc.errors import InternalError
from bnncc.schedules import Decisions, build_kernel
from bnncc.targets import Variant
from bnncc.tuning.record import EMULATED_SECONDS, Record
from bnncc.tuning.shipped import Shipped
from bnncc.tuning.target_key import target_key
from bnncc.tuning.task import kernel_version, workload_key
from bnncc.tuning.verdict import LEAST_GAIN, Verdict

__all__ = ["Tuned", "best_decisions"]

_UNKNOWN = Verdict({}, "not tuned", holds=False)


def best_decisions(records: Sequence[Record]) -> tuple[Record, float] | None:
    """Return the record of the best kernel and its ratio to the untuned one; None where none was measured.

    Numbers of different machines or metrics are not mixed: those that most trials were made by are taken. A kernel measured more than once counts with its
    median; where the best ones were measured again for confirmation, only those can win.
    """
    campaigns: dict[tuple, list[Record]] = {}
    for record in records:
        if record.ratio is not None and record.stage != "network":
            campaigns.setdefault((record.machine, record.metric), []).append(record)
    if not campaigns:
        return None
    found = max(campaigns.values(), key=len)
    confirmed = [record for record in found if record.stage == "confirm"]
    ratios: dict[str, list[float]] = {}
    for record in confirmed or found:
        ratios.setdefault(record.kernel, []).append(record.ratio)
    kernel = min(ratios, key=lambda key: statistics.median(ratios[key]))
    return next(record for record in found if record.kernel == kernel), statistics.median(ratios[kernel])


class Tuned:
    """Decides kernels of one variant by records.

    Parameters
    ----------
    records : iterable of Record
        Of any target; others than that of `variant` are left out.
    variant : Variant
    shipped : Shipped, optional
        What decides where none of the records is about a group.
    threads : int
        How many may share a call: candidates are measured by one, so that a kernel that cannot be shared replaces none that can where there are more.
    """

    def __init__(self, records: Iterable[Record], variant: Variant, shipped: Shipped | None = None, threads: int = 1):
        self.variant, self.shipped, self.threads = variant, shipped, threads
        target = target_key(variant)
        self.stale = 0
        """How many kernels have records of this user that were made for other versions."""
        self._verdicts: dict[str, Verdict] = {}
        self._known: dict[str, list[Record]] = {}
        for record in records:
            if record.target == target:
                self._known.setdefault(record.workload, []).append(record)

    @property
    def knows_any(self) -> bool:
        """Whether there is any record of the target."""
        return bool(self._known)

    def measured(self, group: relax.Function) -> dict[tuple[str, str], float]:
        """Return what the kernel that `decide` takes for a group was measured to take, by machine and metric; empty where it was not."""
        known = self._known.get(workload_key(group))
        if not known:
            return {}
        untuned = kernel_version(build_kernel(group, self.variant).func)
        campaigns: dict[tuple[str, str], list[Record]] = {}
        for record in known:
            if record.untuned == untuned and record.ratio is not None and record.metric != EMULATED_SECONDS and record.stage != "network":
                campaigns.setdefault((record.machine, record.metric), []).append(record)
        verdict = self.verdict(group)
        found = {}
        for campaign, records in campaigns.items():
            best = best_decisions(records) if verdict.is_tuned else None
            found[campaign] = statistics.median(record.untuned_value for record in records) * (min(best[1], 1.0) if best is not None else 1.0)
        return found

    def decide(self, group: relax.Function) -> tuple[Decisions, str]:
        """Return what was decided for the kernel of a group, and what to note of it; nothing where the untuned one stays.

        Where no record of the user's holds, those that come with the package decide.
        """
        verdict = self.verdict(group)
        self.stale += verdict.is_stale
        if not verdict.holds and self.shipped is not None:
            found = self.shipped.verdict(group)
            return ({}, "") if found is None else (found.decisions, found.reason if found.is_tuned or found.is_stale else "")
        return verdict.decisions, verdict.reason if verdict.is_tuned else ""

    def verdict(self, group: relax.Function) -> Verdict:
        """Return what the records say of a group.

        A record holds only as long as the generator still writes both the kernel that was measured and the untuned one that it was compared with.
        """
        key = workload_key(group)
        if key not in self._verdicts:  # layouts are compared before kernels are decided
            self._verdicts[key] = self._judged(group, self._known.get(key))
        return self._verdicts[key]

    def _judged(self, group: relax.Function, known: Sequence[Record] | None) -> Verdict:
        if not known:
            return _UNKNOWN
        plain = build_kernel(group, self.variant).func
        untuned = kernel_version(plain)
        if all(record.metric == EMULATED_SECONDS for record in known):
            return Verdict({}, f"its records are of {EMULATED_SECONDS}, which say nothing of a processor", holds=False)
        current = [record for record in known if record.untuned == untuned and record.metric != EMULATED_SECONDS]
        if not current:
            return Verdict({}, "its records were made for another version of its kernel; tune it again", is_stale=True, holds=False)
        best = best_decisions(current)
        if best is None or best[1] > 1 - LEAST_GAIN or best[0].kernel == untuned:
            return Verdict({}, "tuned: the untuned kernel is the best known")
        record, ratio = best
        there = [r.ratio for r in current if r.stage == "network" and r.kernel == record.kernel and r.ratio is not None]
        if there and statistics.median(there) > 1:
            slower = f"{statistics.median(there):.2f} in the network"
            return Verdict({}, f"tuned: the best kernel takes {ratio:.2f} of the untuned {record.metric} alone, but {slower}; the untuned one stays")
        try:
            kernel = build_kernel(group, self.variant, record.decisions)
        except InternalError:
            kernel = None
        if kernel is None or kernel_version(kernel.func) != record.kernel:
            return Verdict({}, "its best record was made for another version of its kernel; tune it again", is_stale=True, holds=False)
        if self.threads > 1 and is_shared(plain) and not is_shared(kernel.func):
            return Verdict({}, "tuned for one thread: the best kernel cannot be shared by several, as the untuned one can")
        return Verdict(record.decisions, f"tuned, {ratio:.2f} of the untuned {record.metric}", is_tuned=True)
