"""``python -m bnncc`` is ``bnncc``."""

from __future__ import annotations

from bnncc.cli import main

main()
