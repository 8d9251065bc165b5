"""Records that come with the package: for common shapes of layers, so that a network that nobody has tuned gets kernels that were measured.

They are lines as in any database, but of the cores of groups (`bnncc.tuning.core`): `workload`, `kernel` and `untuned` are those of the core, and `around`
says what stood around it where it was measured. The same contraction in another network is decided as the record says, whatever stands around it there; a
record made with the same things around it is preferred. It is applied only where the generator still writes exactly the two kernels of the core that it names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tvm import relax

from bnncc.errors import InternalError
from bnncc.schedules import Decisions, build_kernel
from bnncc.targets import Variant
from bnncc.tuning.core import Core, core_of
from bnncc.tuning.database import Database
from bnncc.tuning.record import Record
from bnncc.tuning.target_key import target_key
from bnncc.tuning.task import kernel_version, workload_key
from bnncc.tuning.verdict import LEAST_GAIN, Verdict

__all__ = ["SHIPPED_STAGE", "Shipped", "shipped_database", "shipped_record"]

SHIPPED_STAGE = "shipped"

_AROUND_CHOICES = ("epilogue vectors", "stage bytes")
"""What is decided of what stands around a core; carried over only where that is the same."""


def shipped_database() -> Database:
    """Return the records that come with the package."""
    return Database(Path(__file__).with_name("shipped"))


def shipped_record(group: relax.Function, variant: Variant, best: Record, ratio: float) -> Record | None:
    """Return what the best record of a group says of its core; None where the group has none.

    Parameters
    ----------
    group : relax.Function
    variant : Variant
    best : Record
        Measured on kernels that the generator still writes.
    ratio : float
        Of its kernel to the untuned one; where less than `LEAST_GAIN` is gained, the record says that the untuned kernel is the best known.
    """
    core = core_of(group)
    if core is None:
        return None
    gains = ratio <= 1 - LEAST_GAIN and best.kernel != best.untuned
    usual = {choice.name: choice.default for choice in build_kernel(group, variant).choices}
    decided = {name: value for name, value in best.decisions.items() if gains and usual.get(name, value) != value or name == "formulation" and gains}
    untuned, kernel = _versions(core, variant, decided)
    value = best.untuned_value * ratio if gains else best.untuned_value
    return replace(
        best, workload=workload_key(core.function), kernel=kernel, untuned=untuned, decisions=decided, value=value, stage=SHIPPED_STAGE,
        title=core.title, message="", around=core.around, note=best.note if gains else "",
    )  # fmt: skip


def _versions(core: Core, variant: Variant, decisions: Decisions) -> tuple[str, str]:
    """Return the versions of the untuned kernel of a core and of that of the decisions, as far as they are about it."""
    untuned = kernel_version(build_kernel(core.function, variant).func)
    return untuned, kernel_version(build_kernel(core.function, variant, decisions, strict=False).func) if decisions else untuned


class Shipped:
    """Decides kernels of one variant by records of cores.

    Parameters
    ----------
    variant : Variant
    records : iterable of Record, optional
        Those that come with the package by default.
    """

    def __init__(self, variant: Variant, records: Iterable[Record] | None = None):
        self.variant = variant
        target = target_key(variant)
        self._known: dict[str, list[Record]] = {}
        for record in shipped_database().records(target) if records is None else records:
            if record.target == target and record.stage == SHIPPED_STAGE and record.ratio is not None:
                self._known.setdefault(record.workload, []).append(record)

    def verdict(self, group: relax.Function) -> Verdict | None:
        """Return what the records say of a group; None where there is none of its core."""
        core = core_of(group) if self._known else None
        known = self._known.get(workload_key(core.function)) if core is not None else None
        if not known:
            return None
        record = min(known, key=lambda r: (len(set(r.around) ^ set(core.around)), r.ratio))
        if _versions(core, self.variant, record.decisions) != (record.untuned, record.kernel):
            return Verdict({}, "the record that comes with bnncc was made for another version of its kernel", is_stale=True)
        alike = record.around == core.around
        decisions = {name: value for name, value in record.decisions.items() if alike or name not in _AROUND_CHOICES}
        if not decisions:
            return Verdict({}, "the untuned kernel is the best known of its shape")
        try:
            build_kernel(group, self.variant, decisions)
        except InternalError:
            return Verdict({}, "the record that comes with bnncc decides what this kernel does not leave open", is_stale=True)
        place = "" if alike else " with other operators around it"
        return Verdict(decisions, f"as shipped: {record.ratio:.2f} of the untuned {record.metric} ({record.machine}){place}", is_tuned=True)
