"""What records say of a kernel."""

from __future__ import annotations

from dataclasses import dataclass

from bnncc.schedules import Decisions

__all__ = ["LEAST_GAIN", "Verdict"]

LEAST_GAIN = 0.02
"""What a kernel must gain over the untuned one before it replaces it: less is noise."""


@dataclass(frozen=True)
class Verdict:
    """What the records say of a kernel.

    Parameters
    ----------
    decisions : mapping
        Empty where the untuned kernel stays.
    reason : str
        ``tuned, 0.81 of the untuned time``, for instance.
    is_tuned : bool
    is_stale : bool
        Whether there were records, made for another version of the kernel.
    holds : bool
        Whether there is a record of the very kernel, by a metric that chooses kernels.
    """

    decisions: Decisions
    reason: str
    is_tuned: bool = False
    is_stale: bool = False
    holds: bool = True
