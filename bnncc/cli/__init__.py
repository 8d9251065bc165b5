"""The command line: it parses, calls the layer below, and prints; nothing is computed here."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave with its exit code: 0 ok, 1 told in a paragraph, 2 wrong usage."""
    from bnncc.cli.app import app

    app(prog_name="bnncc")
