"""The zoo's families as their ``family.toml`` files describe them; no PyTorch needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

__all__ = ["EXPORTERS", "Family", "families", "find_family"]

ROOT = Path(__file__).resolve().parent
EXPORTERS = ("torchscript", "dynamo")


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Parameters
    ----------
    folder : Path
        With ``network.py``, ``family.toml`` and the exported ``*.onnx``.
    title, paper, url : str
        Name, citation with venue, and where the paper is.
    year : int
        The table is in order of it.
    checked : str
        Public repositories with whose code the network was compared, named owner/name; empty where it follows the paper alone.
    inputs : dict of str to list of int
        Name to shape, in order.
    layers, layers_on_bits, layers_on_integers : int
        Convolutions and dense layers: all, those expected on bits, and those on small integers.
    stays_float : str
        What stays float and why, in one sentence.
    notes : str
        Anything else a reader of the table should know.
    exporters : list of str
        Which of PyTorch's exporters write it; ``notes`` says why one does not.
    opset : int or None
        Where the exporters' default will not do.
    warnings : list of str
        Parts of warnings that are expected.
    per_exporter : dict
        Exporter to what differs there: layers, layers_on_bits, layers_on_integers.
    """

    folder: Path
    title: str
    paper: str
    year: int
    inputs: dict[str, list[int]]
    layers: int
    layers_on_bits: int
    stays_float: str
    url: str = ""
    checked: str = ""
    layers_on_integers: int = 0
    notes: str = ""
    exporters: list[str] = field(default_factory=lambda: list(EXPORTERS))
    opset: int | None = None
    warnings: list[str] = field(default_factory=list)
    per_exporter: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def models(self) -> list[Path]:
        """The committed ONNX files; a stem names the exporter."""
        return sorted(self.folder.glob("*.onnx"))

    def expected(self, exporter: str) -> dict[str, int]:
        """Return layers, layers_on_bits and layers_on_integers of one exporter's file."""
        names = ("layers", "layers_on_bits", "layers_on_integers")
        return {name: getattr(self, name) for name in names} | self.per_exporter.get(exporter, {})

    def samples(self, count: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
        """Return random inputs by name, `count` samples along a new first axis, float32."""
        rng = np.random.default_rng(seed)
        return {name: rng.standard_normal((count, *shape)).astype(np.float32) for name, shape in self.inputs.items()}


def families() -> list[Family]:
    """Return all families, oldest paper first."""
    return sorted((_read(path) for path in ROOT.glob("*/family.toml")), key=lambda f: (f.year, f.title))


def find_family(name: str) -> Family:
    """Return the family of one folder.

    Raises
    ------
    SystemExit
        There is none of that name.
    """
    path = ROOT / name / "family.toml"
    if not path.is_file():
        raise SystemExit(f"There is no examples/zoo/{name}/family.toml; there are {', '.join(sorted(f.name for f in families()))}.")
    return _read(path)


def _read(path: Path) -> Family:
    described = tomllib.loads(path.read_text(encoding="utf-8"))
    described["stays_float"] = described.pop("float", "")
    try:
        return Family(folder=path.parent, **described)
    except TypeError as error:
        raise SystemExit(f"{path.relative_to(ROOT)}: {error}. README.md says what a family.toml holds.") from error
