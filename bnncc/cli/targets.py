"""``bnncc targets``."""

from __future__ import annotations

from bnncc.cli import console
from bnncc.cli.options import Json

__all__ = ["targets"]


def targets(as_json: Json = False) -> None:
    """List the targets that a model can be compiled for."""
    from rich.table import Table

    from bnncc.boards import board_names, find_board
    from bnncc.targets import find_target, target_names

    found = [find_target(name) for name in target_names()]
    if as_json:
        console.print_json([{"name": t.name, "description": t.description, "variants": [v.name for v in t.variants]} for t in found])
        return
    table = Table("target", "what it is", "code for", box=None, pad_edge=False)
    for target in found:
        table.add_row(target.name, target.description, ", ".join(v.name for v in target.variants))
    console.stdout().print(table)
    boards = Table("board", "what it is", "target", "flash", "RAM", box=None, pad_edge=False)
    for board in map(find_board, board_names()):
        boards.add_row(board.name, board.description, board.target, f"{board.flash.length // 1024:,} KiB", f"{board.ram.length // 1024:,} KiB")
    console.stdout().print(boards)
