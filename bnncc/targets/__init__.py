"""Targets: one frozen manifest each, looked up by the name on the command line."""

from __future__ import annotations

from bnncc.errors import TargetError
from bnncc.nearest import nearest
from bnncc.targets import arm, cortex_m, x86
from bnncc.targets.manifest import OPTIMIZE_FOR, Target, Variant

__all__ = ["OPTIMIZE_FOR", "Target", "Variant", "find_target", "target_names"]

_TARGETS = {t.name: t for t in (*x86.TARGETS, *arm.TARGETS, *cortex_m.TARGETS)}


def target_names() -> list[str]:
    """Return all names that `find_target` takes."""
    return [*_TARGETS, "native"]


def find_target(name: str) -> Target:
    """Return the target called `name`.

    Raises
    ------
    TargetError
        There is none of that name; the message lists those there are and names the nearest.
    """
    if name == "native":
        return Target("native", "the machine that compiles", (x86.native_variant(),))
    if name not in _TARGETS:
        raise TargetError(f"There is no target {name!r}.{nearest(name, target_names())} Targets: {', '.join(target_names())}.")
    return _TARGETS[name]
