"""One trial as it is kept: what was tuned, what was decided, how it was measured, and what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

__all__ = ["EMULATED_SECONDS", "FORMAT", "Record", "read_record"]

EMULATED_SECONDS = "emulated seconds"
"""The metric of a device that is emulated: kept, as the fault tests of devices need records, but no kernel is chosen by it."""

FORMAT = 1
"""Version of the records; one of another version is not read."""

STATUSES = ("ok", "wrong", "crash", "timeout", "refused")


@dataclass(frozen=True)
class Record:
    """A trial.

    Parameters
    ----------
    target, workload : str
        What the kernel was generated for, see `task.target_key` and `task.workload_key`.
    kernel, untuned : str
        Versions of the kernel measured, and of that which the generator made without decisions, see `task.kernel_version`.
    decisions : mapping
        What was decided; empty for the untuned kernel.
    status : str
        ``ok``; ``wrong`` (another result than the untuned kernel's), ``crash``, ``timeout``, or ``refused`` (it could not be built).
    metric : str
        What is measured: ``seconds``, ``instructions`` where the target is emulated, or `EMULATED_SECONDS`.
    value, untuned_value : float or None
        Of the kernel and of the untuned one, measured in turns; None where the status is not ``ok``.
    machine : str
        What measured it: the processor, the board.
    stage : str
        ``search``, ``confirm`` for the best ones measured again, longer, or ``network`` for what a compilation took, measured as steps of the whole model.
    title, note, message : str
        The operator and shapes, what the schedule chose, why it failed; for readers.
    versions : mapping
        Of bnncc and TVM.
    around : tuple of str
        Of a record that comes with the package (`bnncc.tuning.shipped`): operators that stood around the core.
    """

    target: str
    workload: str
    kernel: str
    untuned: str
    decisions: Mapping[str, object]
    status: str
    metric: str
    value: float | None
    untuned_value: float | None
    machine: str
    stage: str = "search"
    title: str = ""
    note: str = ""
    message: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    around: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Time (or instructions) over that of the untuned kernel; below 1 where tuning won."""
        return self.value / self.untuned_value if self.status == "ok" and self.value is not None and self.untuned_value else None

    def to_line(self) -> str:
        """Return the record as one line of JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")) + "\n"


def read_record(line: str) -> Record | None:
    """Read a line; None where it is torn, no record, or of another format."""
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or row.pop("format", None) != FORMAT or row.get("status") not in STATUSES:
            return None
        row["around"] = tuple(row.get("around", ()))
        return Record(**{**row, "decisions": {name: _hashable(value) for name, value in row["decisions"].items()}})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _hashable(value):
    """Return tuples for the lists of JSON."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
