"""What a user may have meant by a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]

_MOST_NAMED = 4


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a sentence that asks whether one of `names` was meant, with a space before it; empty where none is like `name`."""
    names = list(names)
    near = difflib.get_close_matches(name, names, 1) or [known for known in names if name and known.startswith(name)][:_MOST_NAMED]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
