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
    from bnncc.tuning.database import Database, database_directory
    from bnncc.tuning.shipped import shipped_database
    from bnncc.tuning.target_key import target_key

    found = [find_target(name) for name in target_names()]

    def layers_of(database: Database) -> dict[str, dict[str, int]]:
        layers: dict[str, set[str]] = {}
        for record in database.records():
            layers.setdefault(record.target, set()).add(record.workload)
        return {target.name: {v.name: len(layers.get(target_key(v), ())) for v in target.variants} for target in found}

    def shown(counts: dict[str, int]) -> str:
        return ", ".join(f"{count} for {variant}" for variant, count in counts.items() if count)

    tuned, shipped = layers_of(Database(database_directory())), layers_of(shipped_database())
    if as_json:
        rows = [{"name": t.name, "description": t.description, "variants": [v.name for v in t.variants]} for t in found]
        console.print_json([{**row, "tuned_layers": tuned[row["name"]], "shipped_layers": shipped[row["name"]]} for row in rows])
        return
    table = Table("target", "what it is", "code for", "layers tuned", "shapes shipped", box=None, pad_edge=False)
    for target in found:
        counts = shown(tuned[target.name]), shown(shipped[target.name])
        table.add_row(target.name, target.description, ", ".join(v.name for v in target.variants), *counts)
    console.stdout().print(table)
    boards = Table("board", "what it is", "target", "flash", "RAM", box=None, pad_edge=False)
    for board in map(find_board, board_names()):
        boards.add_row(board.name, board.description, board.target, f"{board.flash.length // 1024:,} KiB", f"{board.ram.length // 1024:,} KiB")
    console.stdout().print(boards)
