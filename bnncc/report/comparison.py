"""What verify found, tensor by tensor, and how it is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnncc.report.samples import RANDOM

__all__ = ["OutputComparison", "TensorComparison", "VerifyReport"]

_SHOWN_CHANNELS = 8

TIE = 2.0**-20
"""Two maxima of a row are a tie if they are this close, relative to the largest magnitude: equal numbers, rounded by float layers."""


@dataclass
class TensorComparison:
    """One tensor that a section makes, over all samples.

    Attributes
    ----------
    section, tensor, node : str
        Entry of the section, ONNX tensor, and the ONNX node that makes it.
    is_code : bool
        Whether its values are codes, compared bit for bit; else floats, compared within rounding.
    is_binary : bool
        Whether the section belongs to the binarized or quantized part.
    is_packed : bool
        Whether words of bits hold the codes; else each is a small integer.
    is_rounded : bool
        Whether the section holds a layer that was rounded to fixed point as was asked: what differs is told, and is no error.
    elements, differing, ties, zeros : int
        Compared; different though rounding leaves no choice; different where the reference's own rounding decides; exactly 0 in front
        of a Sign whose 0 was decided by ``--sign-zero``.
    broken_words : int
        Words that differ though the codes in them do not: bits behind the last channel.
    differing_by_channel, ties_by_channel, zeros_by_channel : Counter
        Of channels, which are the last axis of the compiled tensor.
    largest : float
        Largest absolute difference of floats.
    """

    section: str
    tensor: str
    node: str
    is_code: bool
    is_binary: bool
    is_packed: bool = True
    is_rounded: bool = False
    elements: int = 0
    differing: int = 0
    broken_words: int = 0
    largest: float = 0.0
    differing_by_channel: Counter = field(default_factory=Counter)
    ties_by_channel: Counter = field(default_factory=Counter)
    zeros_by_channel: Counter = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether nothing differs that is not a tie, or that was not to be rounded."""
        return (self.is_rounded or not self.differing) and not self.broken_words

    @property
    def ties(self) -> int:
        """How many elements the reference's rounding decides and are different."""
        return sum(self.ties_by_channel.values())

    @property
    def zeros(self) -> int:
        """How many elements a Sign of exactly 0 made."""
        return sum(self.zeros_by_channel.values())

    def add(self, elements: int, differs: np.ndarray, ties: np.ndarray, broken_words: int = 0, largest: float = 0.0) -> None:
        """Count one sample; `differs` and `ties` are bool, shape (..., channels)."""
        self.elements += elements
        self.differing += int(differs.sum())
        self.broken_words += broken_words
        self.largest = max(self.largest, largest)
        self.differing_by_channel.update(_by_channel(differs))
        self.ties_by_channel.update(_by_channel(ties))

    def count_zeros(self, zeros: np.ndarray) -> None:
        """Count where the original Sign gives 0; bool, shape (..., channels)."""
        self.zeros_by_channel.update(_by_channel(zeros))

    def to_json(self) -> dict:
        """Return what JSON can hold."""
        counters = {
            name: {str(c): n for c, n in sorted(getattr(self, name).items())}
            for name in ("differing_by_channel", "ties_by_channel", "zeros_by_channel")
        }
        plain = ("section", "tensor", "node", "is_code", "is_binary", "is_rounded", "elements", "differing", "ties", "zeros", "broken_words", "ok")
        largest = {} if self.is_code else {"max_abs_difference": self.largest}
        return {**{name: getattr(self, name) for name in plain}, **largest, **counters}


@dataclass
class OutputComparison:
    """One output of the whole network, run from the inputs on, over all samples; for information.

    Attributes
    ----------
    name : str
    max_abs_difference : float
        From the reference.
    rows, same_class, tied_class : int
        Rows of the last axis with more than one number; those with the same largest one; those in which the reference's two largest
        are equal within rounding and ours is the other.
    """

    name: str
    max_abs_difference: float = 0.0
    rows: int = 0
    same_class: int = 0
    tied_class: int = 0

    @property
    def other_class(self) -> int:
        """Rows with another class, apart from ties of maxima."""
        return self.rows - self.same_class - self.tied_class

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Count one sample."""
        with np.errstate(invalid="ignore"):
            apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        self.max_abs_difference = max(self.max_abs_difference, float(np.max(apart[np.isfinite(apart)], initial=0)))
        if ours.ndim == 2 and ours.shape[1] > 1:
            for a, b in zip(ours, theirs, strict=True):
                self.rows += 1
                self.same_class += int(a.argmax() == b.argmax())
                self.tied_class += int(a.argmax() != b.argmax() and b.max() - b[a.argmax()] <= TIE * np.abs(b).max())

    def to_json(self) -> dict:
        """Return what JSON can hold."""
        return {**vars(self), "other_class": self.other_class}


@dataclass(frozen=True)
class VerifyReport:
    """What verify found.

    Attributes
    ----------
    name, target, variant : str
        The model, the target, and the code that this machine ran.
    sign_zero : str
    samples : int
    drawn : bool
        Whether they are random.
    sections : list of TensorComparison
        In order of computation, one for each tensor that a section makes.
    outputs : list of OutputComparison
    bit_layers, integer_layers, layers : int
        Layers that run on bits, and all.
    """

    name: str
    target: str
    variant: str
    sign_zero: str
    samples: int
    drawn: bool
    sections: list[TensorComparison]
    outputs: list[OutputComparison]
    bit_layers: int
    integer_layers: int
    layers: int

    @property
    def ok(self) -> bool:
        """Whether nothing differs but ties."""
        return all(row.ok for row in self.sections)

    @property
    def totals(self) -> dict[str, int]:
        """Codes and numbers compared, and what was found among them."""
        codes, numbers = [row for row in self.sections if row.is_code], [row for row in self.sections if not row.is_code]
        return {
            "codes": sum(row.elements for row in codes),
            "codes_differing": sum(row.differing for row in codes),
            "ties": sum(row.ties for row in self.sections),
            "zeros": sum(row.zeros for row in codes),
            "broken_words": sum(row.broken_words for row in codes),
            "numbers": sum(row.elements for row in numbers),
            "numbers_differing": sum(row.differing for row in numbers),
        }

    def to_json(self) -> dict:
        """Return what JSON can hold."""
        plain = {name: getattr(self, name) for name in ("name", "target", "variant", "sign_zero", "samples", "drawn", "bit_layers", "integer_layers", "layers")}
        rows = {"sections": [row.to_json() for row in self.sections], "outputs": [row.to_json() for row in self.outputs]}
        return {"ok": self.ok, **plain, "totals": self.totals, **rows}

    def to_text(self, console: Console) -> None:
        """Print the report for readers: a table, then what it means."""

        def say(text: str, style: str = "") -> None:
            console.print(Text(text, style), soft_wrap=not console.is_terminal)

        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("tensor", overflow="fold", min_width=16)
        table.add_column("made by", overflow="fold")
        for title in ("compared", "differ", "ties", "zeros"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in self.sections:
            if row.is_binary or row.ties or not row.ok:
                kind = "float" if not row.is_code else "bits" if row.is_packed else "codes"
                differ = Text(str(row.differing), "" if row.ok else "bold red")
                table.add_row(
                    Text(row.tensor), Text(row.node.split(" ")[0]), f"{row.elements} {kind}", differ, str(row.ties), str(row.zeros)
                )
        console.print(table)
        for row in self.sections:
            for what, counter in (
                ("differ", row.differing_by_channel),
                ("ties", row.ties_by_channel),
                ("zeros of Sign", row.zeros_by_channel),
            ):
                if counter:
                    say(f"{row.tensor} ({row.node}): {what} in {_channels(counter)}")
            if row.broken_words:
                say(f"{row.tensor} ({row.node}): {row.broken_words} words have bits behind their last channel")
        for sentence, style in self._sentences():
            say(sentence, style)

    def _sentences(self) -> list[tuple[str, str]]:
        t, rounds = self.totals, any(row.is_rounded for row in self.sections)
        bit_sections = len({row.section for row in self.sections if row.is_binary})
        said = [(f"No --input: the {self.samples} samples were {RANDOM}. Real ones show what a trained network sees.", "")] if self.drawn else []
        for row in self.outputs:
            classes = f"; the class is the reference's in {row.same_class} of {row.rows}" if row.rows else ""
            classes += f", {row.tied_class} more are ties of maxima" if row.tied_class else ""
            said.append((f"Output {row.name}, whole network: largest difference {row.max_abs_difference:.3g}{classes}.", ""))
        if t["zeros"]:
            said.append(
                (
                    f"{t['zeros']} times a Sign saw exactly 0, which --sign-zero {self.sign_zero} takes as "
                    f"{'+1' if self.sign_zero == 'plus' else '-1'} and ONNX as 0. "
                    "The sections are compared with the reference so changed; the outputs above with the original.",
                    "",
                )
            )
        if t["ties"]:
            said.append(
                (
                    f"Ties: {t['ties']}, where the reference's own float rounding decides; "
                    "another order of summation may take the other side.",
                    "",
                )
            )
        for row in self.sections:
            if row.is_rounded:
                what = "bits" if row.is_code else f"numbers (by {row.largest:.3g} at most)"
                said.append((f"Fixed point, as was asked: {row.differing} of {row.elements} {what} of {row.tensor} differ from the source's.", ""))
        numbers = f"; {t['numbers']} floats between sections are within rounding" if t["numbers"] and not t["numbers_differing"] else ""
        done = f"{self.samples} sample{'s' if self.samples != 1 else ''}, code {self.variant}"
        on_bits = f"{self.bit_layers} of {self.layers} layers on bits"
        layers = f"{on_bits}, {self.integer_layers} on integers" if self.integer_layers else on_bits
        part = "quantized" if self.integer_layers else "binarized"
        if not t["codes"]:
            said.append((f"{self.name} has no binarized part: {layers}, the others float ({done}){numbers}.", ""))
        elif self.ok:
            said.append(
                (
                    f"OK: the {part} part equals the ONNX model bit for bit{', ties aside' if t['ties'] else ''}{', fixed point aside' if rounds else ''}: "
                    f"{t['codes']} codes in {bit_sections} sections, "
                    f"{layers} ({done}){numbers}.",
                    "green",
                )
            )
        if not self.ok:
            said.append(
                (
                    f"DIFFERENT: {t['codes_differing']} of {t['codes']} codes and {t['numbers_differing']} of {t['numbers']} floats differ "
                    f"and are no ties, {t['broken_words']} words are broken ({done}). "
                    "This is a bug in bnncc; please report it with the model and the input.",
                    "bold red",
                )
            )
        return said


def _by_channel(mask: np.ndarray) -> dict[int, int]:
    if not mask.any():
        return {}
    counts = mask.reshape(-1, mask.shape[-1] if mask.ndim else 1).sum(0)
    return {int(c): int(counts[c]) for c in np.flatnonzero(counts)}


def _channels(counter: Counter) -> str:
    """Return the channels with the most, and how many more there are."""
    most = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"channel {c}: {n}" for c, n in most[:_SHOWN_CHANNELS])
    return shown + (f" and {len(most) - _SHOWN_CHANNELS} more channels" if len(most) > _SHOWN_CHANNELS else "")
