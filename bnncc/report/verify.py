"""Verify: every section of a compiled model against the ONNX model, each fed the reference's own tensors.

The library that is run holds ``main`` and the sections (sections.py), which call the same kernels. Codes are compared bit for bit, words
included. What differs is a tie if the reference's own float rounding leaves it open (bounds.py), and an error if not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from bnncc.compiler import CompiledArtifact, compile
from bnncc.errors import TargetError
from bnncc.report.bounds import RoundingBounds
from bnncc.report.comparison import OutputComparison, TensorComparison, VerifyReport
from bnncc.report.reference import Reference, decide_zeros
from bnncc.report.samples import given_or_random
from bnncc.report.sections import Boundary, Section, cut_sections
from bnncc.runtime import CompiledModel, load
from bnncc.spec import ByteInput
from bnncc.targets import find_target

__all__ = ["VerifyReport", "verify_artifact", "verify_model"]

Progress = Callable[[str, int, int], None]

FEW_ULPS = 2.0**-21
"""Relative difference of floats that needs no further question: 4 units in the last place."""

FLOAT_TOLERANCE = 1e-4
"""Of a tensor's largest magnitude: how far a float tensor may be off where no bounds are known, as for a softmax."""


def verify_model(
    model: str | Path | onnx.ModelProto,
    *,
    inputs: np.ndarray | Mapping[str, np.ndarray] | None = None,
    target: str = "native",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    byte_inputs: Mapping[str, ByteInput] | None = None,
    fixed_layers: Sequence[str] = (),
    sign_zero: str = "exact",
    limit: int | None = None,
    progress: Progress | None = None,
    opener: Callable[[Path], CompiledModel] = load,
) -> VerifyReport:
    """Compile a model and compare it with onnxruntime, section by section.

    Parameters
    ----------
    model : path or ModelProto
    inputs : ndarray or mapping of str to ndarray, optional
        One sample, or N of them along the first axis or one before it; random ones without.
    target : str
        A name that ``bnncc targets`` lists; what `opener` gives has to run it.
    shapes : mapping of str to tuple of int, optional
        Input name to shape, where the model leaves dimensions open.
    byte_inputs, fixed_layers
        As of `compile`.
    sign_zero : {"exact", "plus", "minus"}
    limit : int, optional
        Check the first so many samples only, or draw so many.
    progress : callable, optional
        ``progress(stage, done, total)``.
    opener : callable
        Gives the model of a folder as what runs it: here or under an emulator, or on a device.

    Raises
    ------
    ModelError, TargetError, ToolchainError, DeviceError
        The model cannot be compiled or run.
    InputError
        The samples do not fit the model's inputs.
    """
    if find_target(target).variants[0].is_source:
        raise TargetError(
            f"Code for {target} is firmware, which no operating system loads: `bnncc verify MODEL.onnx --board BOARD` runs it on a board in QEMU. "
            "`bnncc targets` lists the boards."
        )
    artifact = compile(model, target=target, shapes=shapes, byte_inputs=byte_inputs, fixed_layers=fixed_layers, sign_zero=sign_zero, progress=progress)
    return verify_artifact(artifact, inputs, limit=limit, opener=opener)


def verify_artifact(
    artifact: CompiledArtifact,
    inputs: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    limit: int | None = None,
    opener: Callable[[Path], CompiledModel] = load,
) -> VerifyReport:
    """Compare what was compiled with its ONNX model; parameters and errors as of `verify_model`."""
    samples = given_or_random(inputs, artifact.model.inputs, limit)
    fused, sections = cut_sections(artifact.fused, artifact.context, [spec.name for spec in artifact.model.outputs])
    with tempfile.TemporaryDirectory(prefix="bnncc-verify-") as folder:
        out = Path(folder) / "model"
        replace(artifact, fused=fused).save(out, ("main", *(section.entry for section in sections)))
        check = _Check(artifact, sections, opener(out), samples[0])
        for number, sample in enumerate(samples):
            check.run(sample)
            if artifact.progress is not None:
                artifact.progress("verify", number + 1, len(samples))
        return check.report(len(samples), drawn=inputs is None)


class _Check:
    """Runs samples and gathers what differs."""

    def __init__(self, artifact: CompiledArtifact, sections: list[Section], compiled: CompiledModel, sample: dict[str, np.ndarray]):
        self.artifact, self.sections, self.compiled = artifact, sections, compiled
        original = artifact.model.reference
        boundaries = [b for section in sections for b in (*section.inputs, *section.outputs)]
        names = [b.view.onnx for b in boundaries]
        self.output_names = [spec.name for spec in artifact.model.outputs]
        decisions = _decisions(boundaries, artifact.context.options.sign_zero)
        is_float = {name: array.dtype.kind == "f" for name, array in Reference(original, decisions).run(sample).items()}
        self.decisions = {name: values for name, values in decisions.items() if is_float[name]}  # a bool is never between its two values
        self.plain = Reference(original, [*self.output_names, *self.decisions])
        model = decide_zeros(original, self.decisions) if self.decisions else original
        self.reference = Reference(model, [*names, *self.output_names])
        self.bounds = RoundingBounds(
            model, lambda wanted: Reference(model, wanted).run(self.sample)
        )  # constants, but onnxruntime wants inputs all the same
        self.sample = sample
        nodes = {name: f"{node.op_type} {node.name}".strip() for node in original.graph.node for name in node.output}
        given = {spec.name for spec in artifact.model.inputs}
        rounded = artifact.context.rounded
        self.rounded = {
            section.entry
            for section in sections
            if "first" in rounded
            and any(b.view.onnx in given for b in section.inputs)
            or "last" in rounded
            and any(b.view.onnx in self.output_names for b in section.outputs)
        }
        self.rows = {
            (section.entry, b.name): TensorComparison(
                section.entry,
                b.view.onnx,
                nodes.get(b.view.onnx, ""),
                b.is_code,
                section.is_binary,
                b.packed is not None,
                section.entry in self.rounded,
            )
            for section in sections
            for b in section.outputs
        }
        self.outputs = {name: OutputComparison(name) for name in self.output_names}

    def run(self, sample: dict[str, np.ndarray]) -> None:
        """Compare all sections and the outputs on one sample."""
        self.sample = sample
        tensors = self.reference.run(sample)
        for section in self.sections:
            given = [b.encode(tensors[b.view.onnx]) for b in section.inputs]
            made = self.compiled.run_entry(section.entry, *given)
            for b, found in zip(section.outputs, made, strict=True):
                self._compare(section, b, found, tensors)
        plain = self.plain.run(sample) if self.decisions else tensors
        for b in {b.view.onnx: b for section in self.sections for b in section.outputs if b.view.onnx in self.decisions}.values():
            for row in self.rows.values():
                if row.tensor == b.view.onnx:
                    row.count_zeros(b.codes(plain[b.view.onnx]) == 0)
        results = self.compiled(sample)
        by_name = results if isinstance(results, dict) else {self.output_names[0]: results}
        for name, comparison in self.outputs.items():
            comparison.add(by_name[name], plain[name])

    def _compare(self, section: Section, b: Boundary, found: np.ndarray, tensors: Mapping[str, np.ndarray]) -> None:
        row = self.rows[section.entry, b.name]
        wanted = b.encode(tensors[b.view.onnx])
        if b.is_code:
            self._compare_codes(row, section, b, found, wanted, tensors)
        else:
            self._compare_numbers(row, section, b, found, wanted, tensors)

    def _compare_codes(self, row, section, b, found, wanted, tensors) -> None:
        codes, expected = b.decode(found), b.decode(wanted)
        differs = codes != expected
        ties = np.zeros_like(differs)
        if differs.any() and (bounds := self._bounds(section, b, tensors)) is not None:
            low, high = b.between(bounds.low, bounds.high)
            ties = differs & (low <= codes) & (codes <= high) & (low <= expected) & (expected <= high)
        # words of equal codes are equal, tail bits included; a tie's word differs in that bit alone
        broken = 0 if b.packed is None or differs.any() else int(np.count_nonzero(found != wanted))
        row.add(codes.size, differs & ~ties, ties, broken)

    def _compare_numbers(self, row, section, b, found, wanted, tensors) -> None:
        if found.dtype.kind != "f":
            row.add(found.size, found != wanted, np.zeros(found.shape, bool))
            return
        ours, theirs = found.astype(np.float64), wanted.astype(np.float64)
        with np.errstate(invalid="ignore"):
            apart = np.abs(ours - theirs)
            same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs)) | (apart <= FEW_ULPS * np.maximum(np.abs(ours), np.abs(theirs)))
        ties = np.zeros_like(same)
        limit = FLOAT_TOLERANCE * np.max(np.abs(theirs[np.isfinite(theirs)]), initial=0)
        if not section.is_binary:
            same |= apart <= limit
        if not same.all():
            bounds = self._bounds(section, b, tensors)
            if bounds is None:
                same |= apart <= limit
            else:
                low, high = b.moved(bounds.low), b.moved(bounds.high)
                inside = ~same & (low <= ours) & (ours <= high)
                ties = inside & (apart > limit)  # a quantizer that stays in float takes the other level
                same |= inside
        row.add(found.size, ~same, ties, largest=float(np.max(apart[np.isfinite(apart)], initial=0)))

    def _bounds(self, section: Section, b: Boundary, tensors: Mapping[str, np.ndarray]):
        """Bound a tensor that a section makes from the nearest tensors that it does not make."""
        own = {out.view.onnx for out in section.outputs}
        known = {name: array for name, array in tensors.items() if name not in own}
        return self.bounds.of(b.view.onnx, known)

    def report(self, samples: int, drawn: bool) -> VerifyReport:
        """Return what was gathered."""
        artifact = self.artifact
        return VerifyReport(
            name=artifact.name,
            target=artifact.target.name,
            variant=self.compiled.variant,
            sign_zero=artifact.context.options.sign_zero,
            samples=samples,
            drawn=drawn,
            sections=list(self.rows.values()),
            outputs=list(self.outputs.values()),
            bit_layers=sum(layer.bits for layer in artifact.context.layers),
            integer_layers=sum(layer.integer for layer in artifact.context.layers),
            layers=len(artifact.context.layers),
        )


def _decisions(boundaries: list[Boundary], sign_zero: str) -> dict[str, tuple[float, float]]:
    """Return the tensors that bits hold in one plane, with the number that stands for a Sign's 0 and the one it is taken for."""
    if sign_zero == "exact":
        return {}
    code = 1.0 if sign_zero == "plus" else -1.0
    return {
        b.view.onnx: (b.view.offset, code * b.view.scale + b.view.offset)
        for b in boundaries
        if b.packed is not None and b.packed.codes == (-1, 1) and not b.view.levels
    }
